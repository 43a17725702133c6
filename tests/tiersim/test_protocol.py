"""The worker's end of the pipe: one whole line per event, from any thread."""

import json
import os
import threading

import pytest

from tiersim.events import parse
from tiersim.protocol import EVENTS_FD_VARIABLE, EventWriter


@pytest.fixture
def pipe(monkeypatch):
    """A writer, and the end to read from."""
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv(EVENTS_FD_VARIABLE, str(write_fd))
    yield EventWriter(), read_fd
    os.close(read_fd)
    os.close(write_fd)


def test_what_is_written_is_read(pipe):
    send, read_fd = pipe
    send("phase", name="load\nnext é")
    line, end, rest = os.read(read_fd, 65536).partition(b"\n")
    event = parse(line)
    assert event and (event["v"], event["event"], event["name"]) == (1, "phase", "load\nnext é")
    assert (end, rest) == (b"\n", b"")


def test_half_a_character_costs_a_question_mark_and_not_the_event(pipe):
    send, read_fd = pipe
    send("error", error="OSError", message="no file 'a\udc80b'")
    event = parse(os.read(read_fd, 65536).rstrip(b"\n"))
    assert event and event["message"] == "no file 'a?b'"


def test_events_of_several_threads_do_not_mix(pipe):
    """Lines longer than the 4096 bytes that a pipe keeps whole by itself."""
    send, read_fd = pipe

    def write(letter: str) -> None:
        for _ in range(20):
            send("note", text=letter * 50_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    data = b""
    while data.count(b"\n") < 60:
        data += os.read(read_fd, 65536)
    for thread in threads:
        thread.join()
    assert {json.loads(line)["text"] for line in data.splitlines()} == {c * 50_000 for c in "abc"}


def test_a_write_that_is_cut_short_goes_on(pipe, monkeypatch):
    send, read_fd = pipe
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    send("phase", name="diffuse")
    monkeypatch.undo()
    line, end, rest = os.read(read_fd, 65536).partition(b"\n")
    assert (parse(line) or {}).get("name") == "diffuse" and (end, rest) == (b"\n", b"")
