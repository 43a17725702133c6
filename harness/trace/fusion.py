"""Kernels of a compiled region: which operators Inductor runs as one, by a rule. No torch import here.

    pointwise   a value for each point: arithmetic, casts, copies, padding, joining, picking by index
    reduction   rows of points to a value each (sums, means, maxima), or to rows (softmax, norms)
    library     matrices, convolutions, attention, sorting: a kernel of its own between places in memory

Views are free. What the others come to is found in two steps, which are Inductor's:

1. Inlining: a pointwise result is computed where it is read (`inlining`).
2. Fusion. What is stored is a loop over points. Two loops are one kernel if one reads what the other writes,
   or both the same; if they run over as many points, in as many rows where both reduce, and a loop beside a
   reduction over its points or its rows; if what is read is read in the order it is written (transposing
   splits); and if nothing else has to run between them (a library splits).

A kernel reads each tensor from outside once, and writes what others use. What only it uses has no memory.
They are those that Inductor's scheduler has for a GPU (tests/harness/trace/test_fusion.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness.trace.inlining import LIBRARY, Load, Loop, Operator, Value, inlined
from harness.trace.stage_costs import Work

FARTHEST = 64  # how far Inductor's scheduler looks


class Launch(NamedTuple):
    """A kernel of the region, and the buffers it needs meanwhile."""

    work: Work
    buffers: frozenset[int]
    workspace_bytes: int


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
    return _launches(_fused(inlined(operators, sizes, old, results)), sizes)


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
