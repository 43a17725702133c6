"""Events survive being cut anywhere; what is not an event is dropped."""

import itertools
import os
import threading

from hypothesis import given
from hypothesis import strategies as st

from tiersim.protocol import EVENTS_FD_VARIABLE, EventReader, EventWriter

LINES = b'{"event": "hello"}\nnoise\n{"no": 1}\n[2]\n{"event": "phase", "name": "\xc3\xa9"}\n{"event": "resu'


@given(st.lists(st.integers(0, len(LINES))))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts):
    reader = EventReader()
    edges = [0, *sorted(cuts), len(LINES)]
    for start, end in itertools.pairwise(edges):
        reader.feed(LINES[start:end])
    assert reader.events == [{"event": "hello"}, {"event": "phase", "name": "é"}]


def test_what_is_written_is_read(monkeypatch):
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv(EVENTS_FD_VARIABLE, str(write_fd))
    EventWriter()("phase", name="load\nnext")
    reader = EventReader()
    reader.feed(os.read(read_fd, 65536))
    os.close(read_fd)
    os.close(write_fd)
    (event,) = reader.events
    assert (event["v"], event["event"], event["name"]) == (1, "phase", "load\nnext")


def test_events_of_several_threads_do_not_mix(monkeypatch):
    """Lines longer than the 4096 bytes that a pipe keeps whole by itself."""
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv(EVENTS_FD_VARIABLE, str(write_fd))
    send, reader = EventWriter(), EventReader()

    def write(letter: str) -> None:
        for _ in range(20):
            send("note", text=letter * 50_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    while len(reader.events) < 60:
        reader.feed(os.read(read_fd, 65536))
    for thread in threads:
        thread.join()
    os.close(read_fd)
    os.close(write_fd)
    assert {event["text"] for event in reader.events} == {letter * 50_000 for letter in "abc"}


def test_events_are_heard_as_they_come():
    heard = []
    reader = EventReader(heard.append)
    reader.feed(LINES[:30])
    assert heard == reader.events == [{"event": "hello"}]
