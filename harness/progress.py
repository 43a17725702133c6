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

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import NamedTuple, TextIO

from harness.screen import Clock, Screen
from harness.spans import observe


class Progress(Screen):
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
        super().__init__(stream, clock)
        self._total, self._count = total, count
        self._each = each or self.live
        self._done = self._worked_s = self._work = 0.0
        self._index, self._what, self._detail = 0, "", ""
        self._start_s = self._begun_s = self._clock()

    def begin(self, what: str) -> None:
        """A piece begins. What was between two of them is no measure of those to come."""
        self._index += 1
        self._begun_s = self._clock()
        if not self._done:
            self._worked_s = 0.0
        self._what, self._detail = what, ""
        self.draw(self.lines, now=self._each)

    def prepared(self) -> None:
        """What of the piece is done only once is over: it is no measure of those to come."""
        self._begun_s = self._clock()

    def say(self, detail: str) -> None:
        """What of the piece, or before any, is being done now."""
        self._detail = detail
        self.draw(self.lines, now=self.live)

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
        self.draw(self.lines)

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
