"""The picture of the start page is of the benchmarks there are, and can be made again."""

import shutil

import pytest
from places import ROOT

from scripts.site import picture


def test_it_is_of_the_benchmarks_there_are():
    """Otherwise make it again: python -m scripts.site.picture"""
    assert picture.classes_of(ROOT / picture.OUT) == picture.classes()
    assert (ROOT / picture.OUT).stat().st_size < 150_000


def test_without_a_browser_it_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(picture, "BROWSERS", ("no-such-browser",))
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(picture, "HTML", tmp_path)
    monkeypatch.setattr("sys.argv", ["picture", str(tmp_path / "x.png")])
    assert picture.main() == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "no-such-browser" in err


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(monkeypatch, capsys):
    monkeypatch.setattr(picture, "_shot", lambda _: pytest.fail("too late"))
    monkeypatch.setattr("sys.argv", ["picture", "/proc/x.png"])
    assert picture.main() == 2
    err = capsys.readouterr().err
    assert err.startswith("picture: OUT: '/proc/x.png' cannot be written: ") and err.count("\n") == 1


@pytest.mark.browser
def test_a_site_without_a_chart_has_a_picture_too(tmp_path):
    if not any(map(shutil.which, picture.BROWSERS)):
        pytest.skip(f"none of {', '.join(picture.BROWSERS)} is on PATH; apt-get install chromium")
    page = tmp_path / "index.html"
    page.write_text("<section>Nothing was timed.</section>")
    assert picture._shot(page.as_uri()).startswith(b"\x89PNG")


def test_a_wrong_flag_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["picture", "--wide"])
    assert picture.main() == 2 and capsys.readouterr().err.count("\n") == 1


def test_a_picture_that_does_not_say_is_none(tmp_path):
    """The control: of fewer classes it says so."""
    image = pytest.importorskip("PIL.Image").new("RGB", (4, 4))
    image.save(tmp_path / "x.png")
    with pytest.raises(KeyError):
        picture.classes_of(tmp_path / "x.png")
