"""Functions of tensors as steps over fixed buffers: what is recorded is replayed, the rest is called.

A recording reads and writes where it did when it was made. So the arguments of a recorded function are copied
into buffers of its own, and its result is copied out: what the caller keeps is not what the next call writes.

    with Captured("diffuse", Graphs.on(device), met) as captured:
        captured.record("pass", x.shape, function, result, x)     # at the shapes to come
        captured.run("pass", function, x)                         # one launch, and a copy each way
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from harness.adjustments import Fallback
from harness.graphs import Graphs, unrecorded
from harness.memory import hand_back
from harness.oom import attempt

Function = Callable[..., Tensor]


class Buffered:
    """A function of tensors whose arguments and result have places of their own. Called, it is a step."""

    def __init__(self, function: Function, result: Tensor, *arguments: Tensor):
        """`result`: the place of what `function` makes. Those of `arguments` are zeros like them."""
        self._function = function
        self._result = result
        self._arguments = [torch.zeros_like(argument) for argument in arguments]

    def __call__(self) -> None:
        self._result.copy_(self._function(*self._arguments))

    def put(self, *arguments: Tensor) -> None:
        """Values for the next step."""
        for place, argument in zip(self._arguments, arguments, strict=True):
            place.copy_(argument)

    def taken(self) -> Tensor:
        """A copy of what the last step made."""
        return self._result.clone()


class Captured:
    """Recorded functions of a `stage` by key, which go, with the memory they hold, where the block ends.

    `met`: buckets that have run, of which libraries have all they need. It outlives what is recorded: one run
    is as long as that of a step, a recording is only what it takes the host.
    """

    def __init__(self, stage: str, graphs: Graphs, met: set[Hashable]):
        self._stage = stage
        self._graphs = graphs
        self._met = met
        self._steps: dict[Hashable, Buffered] = {}
        self._failures: dict[str, None] = {}

    @property
    def recording(self) -> bool:
        """Whether `record` records."""
        return self._graphs.recording

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """Why what could not be recorded is called."""
        return tuple(unrecorded(self._stage, failure) for failure in self._failures)

    def record(
        self, key: Hashable, bucket: Hashable, function: Function, result: Tensor, *arguments: Tensor
    ) -> None:
        """Record `function` of tensors like `arguments`; where that fails, it is called, which is told.

        A `bucket` that is met for the first time is run. `result`: where its results lie. No value of
        `arguments` is read.
        """
        step = Buffered(function, result, *arguments)
        failure = None if bucket in self._met else attempt(step)
        if failure:
            self._failures[failure.words] = None
            return
        self._met.add(bucket)
        self._graphs.record(key, step)
        if self._graphs.failure is None:
            self._steps[key] = step
            return
        self._failures[self._graphs.failure] = None
        self._steps.clear()
        hand_back()

    def run(self, key: Hashable, function: Function, *arguments: Tensor) -> Tensor:
        """`function` of `arguments`: the recording of `key`, where there is one."""
        step = self._steps.get(key)
        if step is None:
            return function(*arguments)
        step.put(*arguments)
        self._graphs.run(key, step)
        return step.taken()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._steps.clear()
        self._graphs.drop()
