"""Two workers that take turns, so that each run of one commit's has a run of another's right beside it in
time.

Who compares two commits starts a worker of each with one end of a socket as `--turns`, and names the cell
that is next in a line. The worker answers `ready` once the unrecorded run is done, and after every run that
follows; each `go` is one more, `stop` the end of the cell. `over`: its record is written, whatever that
says. Without a socket every cell of the matrix is run REPEATS times, in order.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator

from commit import REPEATS

READY, GO, OVER = "ready", "go", "over"
_ends: list[Turns] = []  # of a socket; none or one


class Turns:
    """This worker's end of a socket."""

    def __init__(self, descriptor: int):
        self._file = socket.socket(fileno=descriptor).makefile("rw", encoding="utf-8", newline="\n")

    def say(self, word: str) -> None:
        self._file.write(f"{word}\n")
        self._file.flush()

    def hear(self) -> str:
        """The next line; nothing once the other end is closed."""
        return self._file.readline().rstrip("\n")


def take(descriptor: int | None) -> None:
    """Have the other end of a socket say what is measured, and when."""
    if descriptor is not None:
        _ends.append(Turns(descriptor))


def each(cells: Iterable) -> Iterator:
    """The cells to measure, in order; of those that are planned, the ones that are named."""
    if not _ends:
        yield from cells
        return
    planned = {cell.name: cell for cell in cells}
    _ends[0].say(OVER)  # with what comes before the first
    while name := _ends[0].hear():
        yield planned[name]
        _ends[0].say(OVER)


def repeats(most: int = REPEATS) -> Iterator[None]:
    """Once for the run that is not recorded, and once for each that is: without a socket `most` at most."""
    yield
    if not _ends:
        yield from [None] * min(most, REPEATS)
        return
    _ends[0].say(READY)
    while _ends[0].hear() == GO:
        yield
        _ends[0].say(READY)
