"""What several shifts of one stage on one machine come to, and by how much that is, in words."""

from __future__ import annotations

import math
from dataclasses import replace

from scripts.changes.points import EXACT, LEAST_STEP
from scripts.changes.report import FLOORS, Moved, Shift
from scripts.changes.show import TIMES
from scripts.gate.causes import percent, shown
from scripts.gate.statistics import WHOLE

NO_BREAK = "\N{NO-BREAK SPACE}"


def net(shifts: list[Shift]) -> Shift:
    """What several shifts of one stage on one machine, oldest first, come to: from before the first to after
    the last. Errors add up as independent ones do."""
    if len(shifts) == 1:
        return shifts[0]
    signed = any(one.difference is not None for one in shifts)
    moved: dict[str, Moved] = {}
    for one in (one for shift in shifts for one in shift.series):
        before = moved[one.name].before if one.name in moved else one.before
        ratio = one.after / before if before > 0 and one.after > 0 and not signed else None
        moved[one.name] = Moved(one.name, before, one.after, ratio, None, None)
    ordered = sorted(moved.values(), key=lambda one: one.step)
    middle = ordered[len(ordered) // 2]
    ends = [(one.low, one.high) for one in shifts if one.low is not None and one.high is not None]
    ends = [(low, high) for low, high in ends if -1 < low <= high < math.inf]
    error = math.hypot(*(math.log((1 + high) / (1 + low)) / 2 for low, high in ends))
    change, low, high = (
        (middle.ratio * math.exp(way * error) - 1 for way in (0, -1, 1)) if middle.ratio else (None,) * 3
    )
    return replace(
        shifts[-1], change=change, low=low, high=high, worse=middle.after > middle.before, drift=False,
        by_code=any(one.by_code for one in shifts), series=tuple(ordered),
        difference=middle.after - middle.before if signed else None,
    )  # fmt: skip


def is_back(shift: Shift) -> bool:
    """Whether what moved is where it was."""
    if shift.change is None or shift.low is None or shift.high is None:
        middle = shift.series[len(shift.series) // 2]
        return abs(middle.after - middle.before) <= FLOORS.get(shift.unit, 0.0)
    if shift.exact:
        return abs(shift.change) <= EXACT
    return shift.low <= 0 <= shift.high or abs(shift.change) < LEAST_STEP


def amount(shift: Shift) -> str:
    """By how much: of a time with its interval, of what is exact the values of its middle series as well."""
    middle = shift.series[len(shift.series) // 2]
    before, after = (shown(value, shift.unit) for value in (middle.before, middle.after))
    if shift.exact and is_back(shift):
        return after
    drift = "drift " if shift.drift else ""
    if shift.difference is not None:
        return f"{drift}{shift.difference:+.3g} {shift.unit}"
    values = f"{before} → {after}"
    if shift.change is None or (shift.unit in WHOLE and shift.exact):
        return values
    change = f"{drift}{share(shift.change)}"
    if shift.unit in TIMES and shift.low is not None and shift.high is not None:
        return f"{change} ({share(shift.low)} to {share(shift.high)})"
    return f"{change}, {values}"


def share(change: float | None) -> str:
    """A change in percent, which stays on one line."""
    return percent(change).replace(" ", NO_BREAK)
