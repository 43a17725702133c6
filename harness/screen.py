"""Where lines of progress are drawn: in place on a terminal, one after another in any other stream.

with Screen() as screen:
    screen.draw(lambda: ["1 of 3"])      # now and then: most calls do nothing
    print("below this it goes on")
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self, TextIO

from harness.text import harmless

REDRAW_EVERY_S, PLAIN_EVERY_S = 0.5, 10.0
NARROW = 80
START, ERASE, UP = "\r", "\x1b[K", "\x1b[A"  # of a line
TIMES = re.compile(r"(; |  )(?!.*(; |  )).*$")  # the end of a line
UNWRAPPED, WRAPPED = "\x1b[?7l", "\x1b[?7h"  # whether what is too wide goes on in the next line
Clock = Callable[[], float]


class Screen:
    """Where lines of progress are, while entered: a terminal, or a stream that keeps every line.

    Its methods may be called from any thread. One that is entered inside another shows nothing.
    """

    _outermost: ClassVar[Screen | None] = None

    def __init__(self, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock or time.monotonic
        self.live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._every_s = REDRAW_EVERY_S if self.live else PLAIN_EVERY_S
        self._drawn_s = self._clock()
        self._height = 0  # of what is on the terminal
        self._hidden = False
        self._streams: tuple[TextIO, TextIO] | None = None
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._hidden = Screen._outermost is not None
        if self._hidden:
            return self
        Screen._outermost = self
        if self.live:
            self._streams = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = (self._above(stream) for stream in self._streams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.erase()
        if Screen._outermost is self:
            Screen._outermost = None
        if self._streams:
            sys.stdout, sys.stderr = self._streams

    def draw(self, lines: Callable[[], Sequence[str]], *, now: bool = False) -> None:
        """Show `lines()`, unless some were shown a moment ago and it need not be `now`."""
        with self._lock:
            if self._hidden or (not now and self._clock() - self._drawn_s < self._every_s):
                return
            self._drawn_s = self._clock()
            shown = [harmless(line) for line in lines()]
            if not self.live:
                self._write("".join(f"{line}\n" for line in shown))
                return
            width = shutil.get_terminal_size((self._columns(), 24)).columns - 1
            cut = "\n".join(_cut(line, width) for line in shown)
            self._write(self._erasing() + UNWRAPPED + cut + WRAPPED)
            self._height = len(shown)

    def erase(self) -> None:
        """Nothing of it is on the terminal."""
        with self._lock:
            if self._height:
                self._write(self._erasing())
                self._height = 0

    def above(self, stream: TextIO, text: str) -> int:
        """Write `text` to a stream that is on the same terminal, in place of the lines."""
        with self._lock:
            self.erase()
            return stream.write(text)

    def _columns(self) -> int:
        """Of the terminal, which standard output need not be on."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or NARROW
        except OSError:
            return NARROW

    def _erasing(self) -> str:
        return START + (ERASE + UP) * (self._height - 1) + ERASE if self._height else ""

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a terminal that is gone ends no measurement
            self._stream.write(text)
            self._stream.flush()

    def _above(self, stream: TextIO) -> Any:
        return _Above(stream, self) if stream.isatty() else stream


class _Above:
    """A stream to the terminal of a screen."""

    def __init__(self, stream: TextIO, screen: Screen) -> None:
        self._stream, self._screen = stream, screen

    def write(self, text: str) -> int:
        return self._screen.above(self._stream, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _cut(line: str, width: int) -> str:
    """`line` in so many columns: what is left out is of what runs, and not of the times at the end."""
    if len(line) <= width:
        return line
    times = TIMES.search(line)
    end = times[0] if times and len(times[0]) < width else ""
    return f"{line[: width - 1 - len(end)]}…{end}"
