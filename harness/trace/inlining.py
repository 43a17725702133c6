"""The loops of a compiled region: what is left of its operators when pointwise results are inlined.

A pointwise result is computed where it is read and stored nowhere, whatever the size of either; unless a
library reads it, it leaves the region, it is written over what was there or into a part of a buffer, or too
much is read for it: more than `MOST_READS` tensors, or more than `MOST_READS_TWICE` where several operators
want it. What is stored is a loop over points. No torch import here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.trace.stage_costs import Work

POINTWISE, REDUCTION, LIBRARY = "pointwise", "reduction", "library"
MOST_READS, MOST_READS_TWICE = 8, 4  # realize_acc_reads_threshold and realize_reads_threshold of Inductor


class View(NamedTuple):
    """A tensor as an operator meets it: where it lies in a buffer, and the bytes that are moved for it."""

    buffer: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    moved_bytes: int


class Operator(NamedTuple):
    """One operator; `rows` is 0 unless it reduces, `work` that of a kernel by itself."""

    kind: str
    reads: tuple[View, ...]
    writes: tuple[View, ...]
    points: int
    rows: int
    work: Work
    workspace_bytes: int = 0


@dataclass(slots=True, eq=False)
class Value:
    """What a buffer holds from one write to the next, `before` that another value.

    `kept`: it is there after the region. `stored`: it has to lie in memory. `loads`: what it is computed of,
    where it does not; whether each is read in the order of the value's own points.
    """

    buffer: int
    before: Value | None = None
    kept: bool = False
    stored: bool = False
    readers: int = 0
    loads: dict[Load, bool] | None = None


Load = tuple[Value, View]


@dataclass(slots=True, eq=False)
class Loop:
    """An operator, all that is inlined in it, and the loops it comes after."""

    operator: Operator
    loads: dict[Load, bool]
    stores: list[Load]
    after: set[Loop] = field(default_factory=set)


class _Step(NamedTuple):
    operator: Operator
    inputs: list[Load]
    outputs: list[Load]


def _steps(
    operators: Sequence[Operator], sizes: Mapping[int, int], old: Collection[int], results: Collection[int]
) -> list[_Step]:
    """Operators that something comes of, by the values they read and write."""
    current: dict[int, Value] = {}
    steps: list[_Step] = []
    for operator in operators:
        inputs = [(current.setdefault(view.buffer, Value(view.buffer)), view) for view in operator.reads]
        outputs: list[Load] = []
        for view in operator.writes:
            part = view.buffer in old or view.moved_bytes < sizes[view.buffer]
            value = Value(view.buffer, current.get(view.buffer), view.buffer in old, part)
            if part and value.before:
                value.before.stored = True
            current[view.buffer] = value
            outputs.append((value, view))
        steps.append(_Step(operator, inputs, outputs))
    for buffer in results:
        if buffer in current:
            current[buffer].kept = True
    wanted: set[Value] = set()
    live: list[_Step] = []
    for step in reversed(steps):
        if not step.outputs or any(value.kept or value in wanted for value, _ in step.outputs):
            wanted.update(value for value, _ in step.inputs)
            wanted.update(value.before for value, _ in step.outputs if value.stored and value.before)
            live.insert(0, step)
    return live


def inlined(
    operators: Sequence[Operator], sizes: Mapping[int, int], old: Collection[int], results: Collection[int]
) -> list[Loop]:
    """The loops of a region in the order of their operators; arguments are those of `fusion.launches`."""
    steps = _steps(operators, sizes, old, results)
    for operator, inputs, _ in steps:
        for value in {value for value, _ in inputs}:
            value.readers += 1
            value.stored |= operator.kind == LIBRARY
    loops: list[Loop] = []
    for operator, inputs, outputs in steps:
        loads: dict[Load, bool] = {}
        for value, view in inputs:
            straight = _in_order(view, operator)
            sources = {(value, view): True} if value.loads is None else value.loads
            for load, way in sources.items():
                loads[load] = loads.get(load, False) or (way and straight)
        if operator.kind == POINTWISE and not any(_lies(value, loads) for value, _ in outputs):
            for value, _ in outputs:
                value.loads = loads
        else:
            loops.append(Loop(operator, loads, outputs))
    _depend(loops)
    return loops


def _lies(value: Value, loads: Mapping[Load, bool]) -> bool:
    """Whether a pointwise value has to lie in memory."""
    most = MOST_READS if value.readers < 2 else MOST_READS_TWICE
    return value.stored or value.kept or len(loads) > most


def _in_order(view: View, operator: Operator) -> bool:
    """Whether an operator that goes through its result in the order of memory meets `view` in that order too,
    the same places of what is broadcast again and again."""
    if operator.kind != POINTWISE:
        return True
    result = operator.writes[0]
    new = len(result.size) - len(view.size)
    if new < 0:
        return False
    axes = sorted(range(new, len(result.size)), key=lambda axis: -result.stride[axis])
    met = [view.stride[axis - new] for axis in axes if result.size[axis] > 1 and view.size[axis - new] > 1]
    strides = [stride for stride in met if stride]
    return strides == sorted(strides, reverse=True)


def _depend(loops: Sequence[Loop]) -> None:
    """Which loops come before which: those that write what is read, and all that use what is overwritten."""
    writers = {value: loop for loop in loops for value, _ in loop.stores}
    readers: dict[Value, set[Loop]] = {}
    for loop in loops:
        for value, _ in loop.loads:
            readers.setdefault(value, set()).add(loop)
            if value in writers:
                loop.after.add(writers[value])
    for loop in loops:
        for value, _ in loop.stores:
            if before := value.before:
                loop.after |= readers.get(before, set()) - {loop}
                loop.after |= {writers[before]} if before in writers else set()
