"""Progress of a long command: what is running, done of how many, the time so far and the time left.

    with Progress(total=36, count=36) as progress:
        for fit in fits:
            progress.begin(str(fit))
            ...
            progress.end()

All of it is on standard error. On a terminal it is a line that is redrawn in place, below what is printed
meanwhile; anywhere else a plain line now and then. What is left is expected to go on as what is done did, and
nothing is said of it before anything is. There is no thread that draws, which would take a core from what is
timed: a line is drawn where something begins or ends, and whoever times says so between its runs.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self, TextIO

from harness.spans import observe
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
            width = shutil.get_terminal_size((NARROW, 24)).columns - 1
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


class Progress:
    """`total`: all the work there is, in any unit; `count`: of how many pieces, 0 where that says nothing.

    `each`: whether each piece is a plain line, where there is no terminal, however soon it comes.
    """

    def __init__(
        self,
        total: float,
        count: int = 0,
        *,
        each: bool = False,
        stream: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or time.monotonic
        self._screen = Screen(stream, self._clock)
        self._total, self._count = total, count
        self._each = each or self._screen.live
        self._done = self._worked_s = self._work = 0.0
        self._index, self._what, self._detail = 0, "", ""
        self._start_s = self._begun_s = self._clock()

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.__exit__(kind, error, trace)

    def begin(self, what: str) -> None:
        """A piece begins. What was between two of them is no measure of those to come."""
        self._index += 1
        self._begun_s = self._clock()
        if not self._done:
            self._worked_s = 0.0
        self._what, self._detail = what, ""
        self._screen.draw(self.lines, now=self._each)

    def prepared(self) -> None:
        """What of the piece is done only once is over: it is no measure of those to come."""
        self._begun_s = self._clock()

    def say(self, detail: str) -> None:
        """What of the piece, or before any, is being done now."""
        self._detail = detail
        self._screen.draw(self.lines, now=self._screen.live)

    def step(self, what: str, work: float = 1.0) -> None:
        """A piece of so much work begins where the one before has ended, if there was one."""
        if self._index:
            self.end(self._work)
        self._work = work
        self.begin(what)

    def end(self, work: float = 1.0) -> None:
        """So much more is done; of pieces that run side by side, by all of them."""
        self.reach(self._done + work)

    def reach(self, done: float, detail: str = "") -> None:
        """So much is done in all; mostly that costs no more than a look at the clock."""
        if done > self._done:  # else what was worked since is of a piece that still runs
            now_s = self._clock()
            self._worked_s += now_s - self._begun_s
            self._begun_s = now_s
        self._done, self._detail = done, detail
        self._screen.draw(self.lines)

    @property
    def done(self) -> float:
        """How much work is done."""
        return self._done

    def left_out(self, work: float) -> None:
        """So much is not to be done after all."""
        self._index += 1
        self._total -= work

    def elapsed_s(self) -> float:
        return self._clock() - self._start_s

    def expected_s(self, work: float) -> float | None:
        """Seconds for so much work, at the rate so far; None before there is one."""
        return self._worked_s * work / self._done if self._done else None

    def left_s(self) -> float | None:
        """Seconds until all is done, at the rate so far; None before there is one."""
        rest_s = self.expected_s(self._total - self._done)
        return None if rest_s is None else max(rest_s - (self._clock() - self._begun_s), 0.0)

    def lines(self) -> list[str]:
        """What is running, the time so far, and what is left at the rate so far."""
        left_s = self.left_s()
        place = f"[{min(self._index, self._count)}/{self._count}] " if self._count else ""
        left = "" if left_s is None else f", about {minutes(left_s)} to go"
        what = ", ".join(filter(None, (self._what, self._detail)))
        return [f"{place}{what}; {minutes(self.elapsed_s())} so far{left}"]


class Part(NamedTuple):
    """A stage of a run, with those `beside` it that take turns with it: how much of its work that is, and how
    often the span `unit` begins in it, or the stage itself, where that is known."""

    stage: str
    work: float
    unit: str = ""
    times: int = 0
    beside: tuple[str, ...] = ()

    @property
    def begins(self) -> str:
        """The path of what is counted."""
        return f"{self.stage}/{self.unit}" if self.unit else self.stage


class Follower:
    """Tells `progress` what a run does, by the spans that it begins; stages come in the order of `parts`."""

    def __init__(self, progress: Progress, parts: Sequence[Part] = ()) -> None:
        self._progress = progress
        self._parts = {stage: part for part in parts for stage in (part.stage, *part.beside)}
        works = accumulate((part.work for part in parts), initial=0.0)
        self._before = dict(zip(parts, works, strict=False))  # the last sum is all there is
        self._begun = Counter[Part]()
        self._stage = ""

    def __call__(self, path: str) -> None:
        """A span begins."""
        stage = path.partition("/")[0]
        if stage in self._parts and self._stage not in self._parts:
            self._progress.prepared()
        self._stage = stage
        part, done, detail = self._parts.get(stage), self._progress.done, doing(path)
        if part:
            self._begun[part] += path == part.begins
            step = self._begun[part]
            over = max(step - 1, 0) / part.times if part.times else 0.0
            done = max(done, self._before[part] + part.work * min(over, 1.0))
            detail += f" {step} of {part.times}" if 0 < step <= part.times else ""
        self._progress.reach(done, detail)


@contextmanager
def observed(progress: Progress, parts: Sequence[Part] = ()) -> Iterator[None]:
    """Inside, `progress` says which stage runs. Its times stay its own: what is done at a span takes
    microseconds, and a line is drawn twice a second at most."""
    observe(Follower(progress, parts))
    try:
        yield
    finally:
        observe(None)


@contextmanager
def following(what: str, parts: Sequence[Part] = ()) -> Iterator[Progress]:
    """Progress of one run inside, by its spans."""
    with Progress(sum(part.work for part in parts)) as progress:
        progress.begin(what)
        with observed(progress, parts):
            yield progress


def doing(path: str) -> str:
    """What a span does: its stage, and of loading which part.

    >>> doing("load/vae"), doing("diffuse/step")
    ('loading vae', 'diffuse')
    """
    stage, _, part = path.partition("/")
    return f"loading {part.rpartition('/')[2]}".rstrip() if stage == "load" else stage


def minutes(seconds: float) -> str:
    """Minutes and seconds, after hours where there are any: 0:07, 1:02:03."""
    whole, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, whole = divmod(whole, 60)
    return f"{hours}:{whole:02d}:{rest:02d}" if hours else f"{whole}:{rest:02d}"
