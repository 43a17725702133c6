"""Compare: any two commits or machines, number by number.

All numbers lie in one script, which the page reads in the reader's browser: what is compared with what is
chosen there, and is part of the page's address. What is worse and what is noise is decided here, by
`scripts.changes`, once for each machine.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness.text import harmless
from scripts.changes import points
from scripts.changes.history import NOT_MEASURED, Commit, Machine, Series
from scripts.changes.report import FLOORS, MachineReport
from scripts.changes.results import FAILED, N_A
from scripts.changes.show import TIMES
from scripts.changes.units import by_difference
from scripts.gate.causes import NAMES
from scripts.site import shifts
from scripts.site.page import SHORT, Page, Site

NEWEST, TOGETHER = 100, 200  # commits of a machine, and of all; older ones are in the explorer
GAPS = {N_A: None, FAILED: FAILED}  # in place of a value; "" where nothing was measured

Change = tuple[int, int, float, float, bool]
Steps = Mapping[tuple[str, str, str], float]


class Facts(NamedTuple):
    """Of a series. `exact`: without noise; `signed`: compared by difference; `time`: slower, not worse."""

    name: str
    stage: str
    component: str
    unit: str
    exact: bool
    signed: bool
    time: bool


def pages(site: Site) -> Iterator[Page]:
    """The page, and the script with all numbers."""
    newest = _newest(site)
    more = any(len(machine.measured) > newest for machine in site.history.machines)
    yield site.page("compare.html", "compare.html", "Compare", newest=newest if more else None)
    text = json.dumps(data(site), allow_nan=False, separators=(",", ":"))
    yield Page("compare-data.js", f'"use strict"\nconst compareData = {text}\n')


def _newest(site: Site) -> int:
    """How many commits of each machine there are."""
    return min(NEWEST, max(TOGETHER // len(site.history.machines), 2))


def data(site: Site) -> dict[str, Any]:
    """What the script has: commits, series and reasons of doubts are told by their places in the lists."""
    history, machines = site.history, site.history.machines
    reports = {name: report for name, _, report in shifts.machines(site)}
    shown = [sorted(machine.measured)[-_newest(site) :] for machine in machines]
    places = {at: place for place, at in enumerate(sorted({at for ats in shown for at in ats}))}
    series = sorted({_facts(one) for machine in machines for one in machine.series})
    reasons = sorted({why for machine in machines for one in machine.series for why in one.doubts.values()})
    shas = {commit.sha: at for at, commit in enumerate(history.commits)}

    def rows(name: str, machine: Machine, ats: list[int]) -> list[list[Any]]:
        report = reports[name]
        steps = {(one.stage, one.component, one.unit): one.detectable for one in report.noise}
        return list(_rows(machine, _changes(report, ats, shas), steps, ats, series, reasons))

    return {
        "commits": [_commit(history.commits[at]) for at in places],
        "series": series,
        "reasons": [harmless(reason) for reason in reasons],
        "exact": points.EXACT,
        "step": points.LEAST_STEP,
        "floors": FLOORS,
        "machines": [
            {
                "name": harmless(name),
                "commits": [places[at] for at in ats],
                "rows": rows(name, machine, ats),
            }
            for name, machine, ats in zip(site.machines, machines, shown, strict=True)
        ],
    }


def _commit(commit: Commit) -> list[str]:
    return [commit.sha[:SHORT], commit.date[:10], harmless(commit.subject)]


def _rows(
    machine: Machine, changes: dict[str, list[Change]], steps: Steps, ats: list[int], series: list[Facts],
    reasons: list[str],
) -> Iterator[list[Any]]:  # fmt: skip
    """Of each series that has a value: its number; its values; the least step that is no noise, None where it
    is not known; its changes, None where too few values have any; by the number of a value why it is
    doubtful, and its interval."""
    numbers = {facts: number for number, facts in enumerate(series)}
    for one in machine.series:
        facts = _facts(one)
        step = None if one.exact or facts.signed else steps.get((one.stage, one.component, one.unit))
        judged = sum(value == value for value in one.sound) >= points.LEAST_POINTS
        yield [
            numbers[facts],
            [_value(one, at) for at in ats],
            step and _digits(step, 3),
            changes.get(one.name, []) if judged else None,
            {number: reasons.index(one.doubts[at]) for number, at in enumerate(ats) if at in one.doubts},
            {
                number: [_digits(end, 4) for end in one.intervals[at]]
                for number, at in enumerate(ats)
                if at in one.intervals
            },
        ]


def _changes(report: MachineReport, ats: list[int], places: dict[str, int]) -> dict[str, list[Change]]:
    """Of each series by its name: the first and the last commit that a change may be seen at, by numbers in
    `ats`, the levels before and after, and whether code did it. `places` are those of commits."""
    changes: dict[str, list[Change]] = {}
    for shift in report.shifts:
        last = bisect_left(ats, places[shift.commit.sha])
        first = bisect_left(ats, places[shift.since.sha]) + 1 if shift.drift else last
        for moved in () if shift.exact else shift.series:
            levels = _digits(moved.before, 4), _digits(moved.after, 4)
            changes.setdefault(moved.name, []).append((first, last, *levels, shift.by_code))
    return changes


def _value(one: Series, at: int) -> float | str | None:
    value = one.values[at]
    if value == value:
        return _digits(value, 6)
    return GAPS.get(one.gaps.get(at, NOT_MEASURED), "")


def _digits(value: float, digits: int) -> float:
    """As many digits as are needed, and no fraction of a whole number."""
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _facts(one: Series) -> Facts:
    """What is said of a series, whichever machine measured it."""
    name = " ".join((one.benchmark, *(f"{key}={value}" for key, value in one.params.items())))
    signed = by_difference(one.unit, one.benchmark)
    component = NAMES.get(one.component, one.component)
    return Facts(harmless(name), one.stage, component, one.unit, one.exact, signed, one.unit in TIMES)
