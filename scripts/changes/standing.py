"""What still stands of what commits made worse: a revert takes it away, and so does any other gain.

What is the machine's doing is left out of it, and so is what only noise says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from scripts.changes.points import EXACT, LEAST_STEP
from scripts.changes.report import FLOORS, MachineReport, Moved, Shift


class Step(NamedTuple):
    """What a shift did to one of its series."""

    shift: Shift
    moved: Moved


def paths(machine: MachineReport) -> dict[str, list[Step]]:
    """What commits did to each series by its name, for better or worse, oldest first."""
    steps: dict[str, list[Step]] = {}
    for shift in reversed(machine.shifts):
        for moved in shift.series if shift.by_code else ():
            steps.setdefault(moved.name, []).append(Step(shift, moved))
    return steps


def standing(path: list[Step]) -> Iterator[Step]:
    """The losses of a series that no gain after them took back, oldest first. A gain takes back what is most
    nearly as large, then the next."""
    amounts: dict[int, float] = {}
    for number, (_, moved) in enumerate(path):
        if moved.step > 0:
            amounts[number] = moved.step
            continue
        gain = -moved.step
        nearness = {other: abs(amount - gain) for other, amount in amounts.items()}
        for other in sorted(nearness, key=lambda one: nearness[one]):
            taken = min(amounts[other], gain)
            amounts[other] -= taken
            gain -= taken
    for number, amount in amounts.items():
        if amount > _least(path[number].shift):
            yield path[number]


def verdict(path: list[Step]) -> int:
    """1 of a series that commits made worse, -1 of one that they made better, else 0."""
    if any(standing(path)):
        return 1
    return -1 if path and sum(moved.step for _, moved in path) < -_least(path[-1].shift) else 0


def _least(shift: Shift) -> float:
    """How far a series moves before it is any worse, or better."""
    if shift.difference is not None:
        return FLOORS.get(shift.unit, 0.0)
    return math.log1p(EXACT if shift.exact else LEAST_STEP)
