"""The site is served to this machine alone, and what stands in the way is told in a line."""

import socket
import threading
from urllib.request import urlopen

import pytest

from scripts import preview, summary


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A page of a site, in the folder that the command is run in."""
    monkeypatch.chdir(tmp_path)
    summary.SITE.parent.mkdir(parents=True)
    summary.SITE.write_text("a page")


@pytest.fixture
def taken():
    """A port that somebody else has."""
    with socket.create_server((preview.HERE, 0)) as other:
        yield other.getsockname()[1]


def served(server) -> str:
    """What the address of a server has, which is ended."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = urlopen(f"http://{preview.HERE}:{server.server_port}/").read().decode()
        server.shutdown()
    return text


def test_the_site_is_served_to_this_machine(site, capsys):
    server = preview.server(None)
    assert server.server_address[0] == preview.HERE
    assert served(server) == "a page"
    assert "GET" not in capsys.readouterr().err


def test_the_address_is_printed(site, monkeypatch, capsys):
    def serve(server):
        raise KeyboardInterrupt

    monkeypatch.setattr(preview.ThreadingHTTPServer, "serve_forever", serve)
    assert preview.main([]) == 130
    assert capsys.readouterr().out.startswith(f"site     http://{preview.HERE}:")


def test_a_port_that_was_named_and_is_taken_is_refused(site, taken, capsys):
    assert preview.main(["--port", str(taken)]) == 2
    assert f"--port: {taken} is taken; use another, or leave it out" in capsys.readouterr().err


def test_the_usual_port_gives_way_to_a_free_one(site, taken, monkeypatch, capsys):
    monkeypatch.setattr(preview, "PORT", taken)
    assert served(preview.server(None)) == "a page"
    assert f"port {taken} is taken, so it is another" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "9" * 5000])
def test_what_is_no_port_is_refused(site, port, capsys):
    assert preview.main([f"--port={port}"]) == 2
    assert capsys.readouterr().err.startswith("preview: ")


def test_without_a_site_it_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert preview.main([]) == 3
    assert "make bench or make site makes it" in capsys.readouterr().err
