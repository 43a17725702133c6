"""Stages of two commits on one machine, one beside the other, and what else the machine did meanwhile.

What is worse or better is the report's to say: what is no shift there is the same within noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from scripts.changes.history import Machine, Series
from scripts.changes.points import CONFIDENCE, EXACT
from scripts.changes.report import MachineReport
from scripts.changes.results import FAILED, is_amount
from scripts.changes.units import by_difference
from scripts.gate.causes import percent, placed, shown
from scripts.site.shifts import CARDS, SIGNS, TONES

SAME, WITHIN, UNCONFIRMED = "same", "same within noise", "noise: one measurement alone"
MOST_MOVED, MOST_SAME = 10, 2  # series of a stage that are listed
Kind = tuple[str, str, str, bool]  # stage, component, unit, exact


@dataclass(frozen=True, slots=True)
class Change:
    """A series at both commits, in words."""

    name: str
    before: str
    after: str
    change: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage at both commits. `change`: of its middle series; `interval`: what noise makes of that."""

    verdict: str
    place: str
    change: str
    interval: str
    series: int
    listed: tuple[Change, ...]

    @property
    def tone(self) -> str:
        """Its class in site.css."""
        return TONES.get(self.verdict, "noise")

    @property
    def sign(self) -> str:
        return SIGNS.get(self.verdict, "")


def grouped(machine: Machine) -> dict[Kind, list[Series]]:
    """Series by stage; what tells of cards is none."""
    stages: dict[Kind, list[Series]] = {}
    for one in machine.series:
        if one.unit not in CARDS:
            stages.setdefault((one.stage, one.component, one.unit, one.exact), []).append(one)
    return stages


def widths(report: MachineReport) -> dict[tuple[str, str, str], float]:
    """The noise of each stage."""
    return {(one.stage, one.component, one.unit): one.width for one in report.noise}


def compared(
    stages: Mapping[Kind, list[Series]], noise: Mapping[tuple[str, str, str], float],
    verdicts: Mapping[Kind, str], base: int, at: int,
) -> list[Stage]:  # fmt: skip
    """Every stage that was measured at both places; those of `verdicts`, which the report has, first."""
    rows = []
    for kind, series in stages.items():
        usable = [one for one in series if not {base, at} & one.doubts.keys() and _known(one, base, at)]
        if usable:
            rows.append(_stage(kind, usable, noise.get(kind[:3]), verdicts.get(kind), base, at))
    return sorted(rows, key=lambda row: (row.verdict not in verdicts.values(), row.place))


def _known(series: Series, base: int, at: int) -> bool:
    return not math.isnan(series.values[base]) and not math.isnan(series.values[at])


def _stage(
    kind: Kind, series: list[Series], width: float | None, verdict: str | None, base: int, at: int
) -> Stage:
    stage, component, unit, exact = kind
    moves = [(_move(one, base, at), one) for one in series]
    middle = median(move for move, _ in moves)
    margin = None if exact or width is None else CONFIDENCE * math.sqrt(2) * width
    interval = ""
    if margin is not None and not by_difference(unit, series[0].benchmark):
        interval = f"{percent(middle - margin)} to {percent(middle + margin)}"
    if verdict is None and exact:
        verdict = SAME
    elif verdict is None:
        verdict = WITHIN if margin is None or abs(middle) <= margin else UNCONFIRMED
    most = MOST_SAME if verdict in (SAME, WITHIN) else MOST_MOVED
    moves.sort(key=lambda pair: -abs(pair[0]))
    least = EXACT if exact else 2 * (width or 0)
    listed = tuple(_change(one, move, base, at) for move, one in moves[:most] if abs(move) > least)
    moved = abs(moves[0][0]) > EXACT
    change = "" if exact and not moved else _shown(middle, unit, series[0].benchmark)
    place = placed(stage, component) + ("" if unit == "seconds" else f", {unit}")
    place += ", exact" if exact else ""
    return Stage(verdict, place, change, interval, len(series), listed)


def _move(series: Series, base: int, at: int) -> float:
    """By how much a series moved: relatively, or by their difference where values have no ratio."""
    before, after = series.values[base], series.values[at]
    if by_difference(series.unit, series.benchmark):
        return after - before
    return after / before - 1 if before > 0 else 0.0 if after == before else math.inf


def _shown(move: float, unit: str, benchmark: str) -> str:
    if by_difference(unit, benchmark):
        return f"{move:+.3g} {unit}"
    return percent(move) if math.isfinite(move) else "from zero"


def _change(series: Series, move: float, base: int, at: int) -> Change:
    before, after = (_with_interval(series, place) for place in (base, at))
    return Change(series.name, before, after, _shown(move, series.unit, series.benchmark))


def _with_interval(series: Series, at: int) -> str:
    """A value, with the 99 % interval of its samples where it has one."""
    value = shown(series.values[at], series.unit)
    if at not in series.intervals:
        return value
    low, high = (shown(end, series.unit).partition(" ")[0] for end in series.intervals[at])
    return f"{value} ({low} to {high})"


def failures(machine: Machine, base: int | None, at: int) -> list[tuple[str, bool]]:
    """Names of series that failed at a place, and of each whether it ran at `base`; those that did first."""
    failed = [one for one in machine.series if one.gaps.get(at) == FAILED]
    ran = [(one.name, base is not None and not math.isnan(one.values[base])) for one in failed]
    return sorted(ran, key=lambda pair: (not pair[1], pair[0]))


def doubts(machine: Machine, at: int) -> list[tuple[str, int]]:
    """Why measurements at a place are left out, and how many for that."""
    return Counter(one.doubts[at] for one in machine.series if at in one.doubts).most_common()


def load(conditions: Iterable[Mapping[str, Any]]) -> str:
    """What else the machine did while its cells were measured, in words; empty where nothing is known."""
    return ", ".join(_load(list(conditions)))


def _load(conditions: list[Mapping[str, Any]]) -> Iterator[str]:
    def known(*names: str) -> list[float]:
        return [one[name] for one in conditions for name in names if is_amount(one.get(name))]

    if loads := known("load_before", "load_after"):
        yield f"load {_range(loads)}"
    if others := known("other_cores"):
        cores = f" of {max(known('cores')):.0f}" if known("cores") else ""
        busy = (
            f"kept at most {max(others):.1f}{cores} cores busy"
            if max(others) >= 0.05
            else "kept no core busy"
        )
        yield f"other work {busy}"
    if temperatures := known("cpu_temperature_c", "gpu_temperature_c"):
        yield f"at most {max(temperatures):.0f} °C"
    if any(known("throttle_events")) or any(known("gpu_slowed")):
        yield "slowed down by heat or power"


def _range(values: list[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
