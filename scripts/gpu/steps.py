"""Steps of a part: one row each, measured in the process of the part (`worker.py`), a failure included.

A part is a module with `steps(task)`, an iterator of Step: what one step needs is made by it, and what steps
share is made when the first of them runs, so that a run that goes on makes nothing it does not need.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from harness.budget import shortage
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.oom import Failure, classify
from harness.records.schema import Item
from harness.text import harmless
from scripts.gpu.plan import Sizes, sizes_of
from scripts.gpu.record import Row, Value

REASON_CHARS = 500


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process of a part is asked for, in `limit_s`. `done`: names of rows that are there."""

    part: str
    device: str
    source: str
    limit_s: float
    done: tuple[str, ...] = ()

    @property
    def sizes(self) -> Sizes:
        return sizes_of(self.source)

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def need_cuda(self, what: str) -> None:
        """Raises MissingPrerequisite elsewhere."""
        if not self.on_cuda:
            raise MissingPrerequisite(f"{what}: CUDA's alone, and this is {self.device}")


@dataclass(frozen=True)
class Measured:
    """What a step found. `error`: what was wrong with it, though it could be measured; `cut`: that
    its time was over before it was through.

    `repeat_s`: what of its time a like step would take again, None for all of it.
    """

    values: Mapping[str, Value]
    items: tuple[Item, ...] = ()
    error: str = ""
    cut: str = ""
    repeat_s: float | None = None


class Step(NamedTuple):
    """`work`: in proportion to the time it takes, among the steps of a part; 0 where nothing follows."""

    name: str
    run: Callable[[], Measured]
    work: float = 0.0


@dataclass
class Clock:
    """The time of a part, and what a step of so much work is expected to take: as long as any has so far."""

    limit_s: float
    now: Callable[[], float] = time.monotonic
    rate: float = 0.0
    start_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.start_s = self.now()

    @property
    def left_s(self) -> float:
        return self.limit_s - (self.now() - self.start_s)

    def expected_s(self, step: Step) -> float:
        return self.rate * step.work

    def took(self, step: Step, seconds: float) -> None:
        if step.work:
            self.rate = max(self.rate, seconds / step.work)


def rows(steps: Iterable[Step], task: Task, clock: Clock) -> Iterator[Row]:
    """A row of every step that is not there yet, also of those there is no time for."""
    for step in steps:
        if step.name in task.done:
            continue
        if (expected_s := clock.expected_s(step)) >= clock.left_s:
            reason = f"no time: {shortage(expected_s, clock.left_s, None)}"
            yield Row(name=step.name, status="skip", reason=reason, needs_s=round(expected_s, 1))
            continue
        yield _row(step, clock)


def _row(step: Step, clock: Clock) -> Row:
    start_s = clock.now()
    ending: dict[str, Any] = {"status": "ok"}
    try:
        measured = step.run()
    except Exception as error:
        ending = _failure(error)
        measured = Measured({})
    gc.collect()  # after the `except` block, whose traceback holds what the next step needs
    took_s = clock.now() - start_s
    if measured.cut:
        ending = {"status": "skip", "reason": f"no time: {measured.cut}", "needs_s": round(2 * took_s, 1)}
    if measured.error:
        ending |= {"status": "failed", "reason": measured.error}
    if ending["status"] == "ok":
        clock.took(step, took_s if measured.repeat_s is None else measured.repeat_s)
    return Row(
        name=step.name, values=measured.values, items=measured.items, took_s=round(took_s, 3), **ending
    )


def _failure(error: Exception) -> dict[str, Any]:
    """How a step ended that did not: memory that ran out in words, with what was raised."""
    if isinstance(error, (UsageError, MissingPrerequisite)):
        return {"status": "n/a", "reason": harmless(str(error), most=REASON_CHARS)}
    failure = Failure("other", "", str(error)) if isinstance(error, BenchError) else classify(error)
    if failure.kind == "other":
        return {"status": "failed", "reason": harmless(failure.message, most=REASON_CHARS)}
    exception = harmless(failure.exception, most=REASON_CHARS)
    return {"status": "failed", "reason": f"out of memory: {failure.words}", "exception": exception}
