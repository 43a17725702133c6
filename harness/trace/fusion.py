"""Kernels of a compiled region: which operators Inductor runs as one, by a rule. No torch import here.

    pointwise   a value for each point: arithmetic, casts, copies, padding, joining, picking by index
    reduction   rows of points to a value each (sums, means, maxima), or to rows (softmax, norms)
    library     matrices, convolutions, attention, sorting: a kernel of its own between places in memory

Views are free. What the others come to is found in two steps, which are Inductor's:

1. Inlining. A pointwise result is computed where it is read and stored nowhere, whatever the size of either;
   unless a library reads it, it leaves the region, it is written over what was there or into a part of a
   buffer, or too much is read for it: more than `MOST_READS` tensors, or more than `MOST_READS_TWICE` where
   several operators want it.
2. Fusion. What is stored is a loop over points. Two loops are one kernel if one reads what the other writes,
   or both the same; if they run over as many points, in as many rows where both reduce, and a loop beside a
   reduction over its points or its rows; if what is read is read in the order it is written (transposing
   splits); and if nothing else has to run between them (a library splits).

A kernel reads each tensor from outside once, and writes what others use. What only it uses has no memory.
They are those that Inductor's scheduler has for a GPU (tests/harness/trace/test_fusion.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.trace.stage_costs import Work

POINTWISE, REDUCTION, LIBRARY = "pointwise", "reduction", "library"
# realize_acc_reads_threshold and realize_reads_threshold of Inductor, and how far its scheduler looks.
MOST_READS, MOST_READS_TWICE, FARTHEST = 8, 4, 64


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


class Launch(NamedTuple):
    """A kernel of the region, and the buffers it needs meanwhile."""

    work: Work
    buffers: frozenset[int]
    workspace_bytes: int


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


@dataclass(slots=True, eq=False)
class Kernel:
    """Loops that run as one."""

    loops: list[Loop]

    @property
    def library(self) -> bool:
        return self.loops[0].operator.kind == LIBRARY

    @property
    def points(self) -> int:
        return max(loop.operator.points for loop in self.loops)

    @property
    def rows(self) -> int:
        return max(loop.operator.rows for loop in self.loops)

    def values(self) -> set[Value]:
        return {value for loop in self.loops for value, _ in loop.stores}

    def loads(self) -> Iterator[tuple[Load, bool]]:
        return (load for loop in self.loops for load in loop.loads.items())


def launches(
    operators: Sequence[Operator], sizes: Mapping[int, int], old: Collection[int], results: Collection[int]
) -> list[Launch]:
    """The kernels of a region in the order they run. `sizes`: bytes of the buffers, of which those in `old`
    were there before it, and those in `results` are to be after it."""
    return _launches(_fused(_loops(operators, sizes, old, results)), sizes)


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


def _loops(
    operators: Sequence[Operator], sizes: Mapping[int, int], old: Collection[int], results: Collection[int]
) -> list[Loop]:
    """What is left when pointwise results are inlined."""
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
        inlined = operator.kind == POINTWISE and not any(_lies(value, loads) for value, _ in outputs)
        if inlined:
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


def _fused(loops: Sequence[Loop]) -> list[Kernel]:
    """Kernels, in an order in which they can run."""
    home = {loop: Kernel([loop]) for loop in loops}
    for place, loop in enumerate(loops):
        for other in reversed(loops[max(place - FARTHEST, 0) : place]):
            first, second = home[other], home[loop]
            if first is not second and _fit(first, second) and not _apart(first, second, home):
                first.loops += second.loops
                home |= dict.fromkeys(second.loops, first)
    left = list(dict.fromkeys(home[loop] for loop in reversed(loops)))[::-1]  # by their last loop
    ready: list[Kernel] = []
    while left:
        kernel = next(one for one in left if _needs(one, home) <= set(ready))
        left.remove(kernel)
        ready.append(kernel)
    return ready


def _fit(first: Kernel, second: Kernel) -> bool:
    """Whether two kernels go through the same points and have to do with each other."""
    if first.library or second.library:
        return False
    if first.rows and second.rows:
        same = (first.points, first.rows) == (second.points, second.rows)
    elif first.rows or second.rows:
        reduction, other = (first, second) if first.rows else (second, first)
        same = other.points in (reduction.points, reduction.rows)
    else:
        same = first.points == second.points
    if not same:
        return False
    passed = [
        straight
        for one, other in ((first, second), (second, first))
        for (value, _), straight in other.loads()
        if value in one.values()
    ]
    if passed:
        return all(passed)
    both = ({load for load, straight in one.loads() if straight} for one in (first, second))
    return bool(set.intersection(*both))


def _needs(kernel: Kernel, home: Mapping[Loop, Kernel]) -> set[Kernel]:
    return {home[other] for loop in kernel.loops for other in loop.after} - {kernel}


def _apart(first: Kernel, second: Kernel, home: Mapping[Loop, Kernel]) -> bool:
    """Whether another kernel has to run between two."""
    for early, late in ((first, second), (second, first)):
        seen: set[Kernel] = set()
        rest = list(_needs(late, home) - {early})
        while rest:
            kernel = rest.pop()
            if kernel is early:
                return True
            if kernel not in seen:
                seen.add(kernel)
                rest += _needs(kernel, home)
    return False


def _launches(kernels: Sequence[Kernel], sizes: Mapping[int, int]) -> list[Launch]:
    """What each kernel moves: of its values only what another reads or the region leaves is written."""
    users: dict[Value, set[Kernel]] = {}
    for kernel in kernels:
        for (value, _), _ in kernel.loads():
            users.setdefault(value, set()).add(kernel)
    ordered: list[Launch] = []
    for kernel in kernels:
        own = kernel.values()
        reads = {load for load, _ in kernel.loads() if load[0] not in own}
        stores = {load for loop in kernel.loops for load in loop.stores}
        writes = {load for load in stores if load[0].kept or users.get(load[0], set()) - {kernel}}
        if kernel.library:
            work, workspace_bytes = kernel.loops[0].operator.work, kernel.loops[0].operator.workspace_bytes
            writes = stores
        else:
            work, workspace_bytes = Work(0, _moved(reads, sizes), _moved(writes, sizes), 1), 0
        buffers = frozenset(value.buffer for value, _ in reads | writes)
        ordered.append(Launch(work, buffers, workspace_bytes))
    return ordered


def _moved(loads: Iterable[Load], sizes: Mapping[int, int]) -> int:
    """Bytes of all views, those of one buffer no more than it has."""
    moved: dict[int, int] = {}
    for view in {view for _, view in loads}:
        moved[view.buffer] = min(moved.get(view.buffer, 0) + view.moved_bytes, sizes[view.buffer])
    return sum(moved.values())
