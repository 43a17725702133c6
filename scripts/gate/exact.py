"""What has no noise: predicted costs and peaks of both sides, and which cards they fit."""

from __future__ import annotations

import time
from typing import NamedTuple

from benchmarks import _records, costs
from benchmarks._matrix import COST_SOURCE, predicted_cells
from harness.progress import Progress
from scripts.gate.record import Fit, Series
from scripts.gate.sides import Side, whole_matrix
from scripts.gate.statistics import judge_exact
from scripts.gate.suites import NotMeasured, Reading, facts, held, readings

FITS = 0  # the exit code of a run that a card is enough for
STATUS = {"ok": "fits", "oom": "out of memory", "skip": "not tried"}


class Exact(NamedTuple):
    """Series whose numbers both sides have, the verdicts of cards that changed, and why BASE has none of what
    is therefore not compared."""

    series: list[Series]
    fits: list[Fit]
    failures: list[str]


def compare(base: Side, head: Side, only: str, until_s: float) -> Exact:
    """Predict both sides, whatever part of the matrix is timed. A commit is predicted once. What is not done
    at `until_s`, of the monotonic clock, cannot be told."""
    if not (numbers := chosen(only)):
        return Exact([], [], [])
    before, after = _predicted(base, until_s), _predicted(head, until_s)
    series, failures = [], []
    for reading in numbers:
        try:
            series.append(_series(reading, before, after))
        except NotMeasured as error:
            failures.append(str(error))
    return Exact(list(filter(None, series)), _fits(numbers, before, after), failures)


def chosen(only: str) -> list[Reading]:
    """The numbers of the whole matrix whose names `only` is found in."""
    with whole_matrix():
        return readings((COST_SOURCE,), only, exact=True)


def _predicted(side: Side, until_s: float) -> dict[str, dict]:
    with side.current():
        planned = {cell.name for cell in predicted_cells()}
        left_s = max(until_s - time.monotonic(), 0.0)
        with Progress(len(planned)) as progress:
            progress.begin(f"predicting {side.commit.sha[:8]}")
            return _records.predict(planned, costs.TORCH, left_s, lambda done: progress.reach(done))


def _series(reading: Reading, before: dict[str, dict], after: dict[str, dict]) -> Series | None:
    """One number of both sides; None where BASE has none, and where a verdict says more than a number. Raises
    NotMeasured where BASE failed."""
    known = facts(reading) | {"kind": "exact"}
    records = [side.get(reading.cell.name, side["header"]) for side in (before, after)]
    if _records.TIME_OVER in [record.get("reason") for record in records]:
        return Series(**known, verdict="cannot tell", reason=_records.TIME_OVER)
    base = reading.value(before)
    if base is None:
        return None
    try:
        head, reason = reading.value(after), "HEAD has no such number, BASE has one"
    except NotMeasured as error:
        head, reason = None, str(error)
    if reading.method == "track_status" and (head is not None or base == FITS):
        return None  # it is among the fits that changed, or its peak has no number either
    if head is None:
        fits = reading.cell.kind == "predicted" and records[1].get("status") in STATUS
        return None if fits else Series(**known, verdict="not measured", base=base, reason=reason[:2000])
    ratio = head / base if base else None
    verdict = judge_exact(base, head, reading.unit)
    return Series(**known, verdict=verdict, base=float(base), head=float(head), ratio=ratio)


def _fits(numbers: list[Reading], before: dict[str, dict], after: dict[str, dict]) -> list[Fit]:
    """Cards whose verdict is another one."""
    changed = []
    for one in (one for one in numbers if one.method == "track_status"):
        cell = one.cell
        base, head = (STATUS.get(records.get(cell.name, {}).get("status", "")) for records in (before, after))
        if base and head and base != head:
            what = held(one.benchmark, one.component, dict(one.named))
            changed.append(Fit(what, float(cell["tier_gb"]), base, head))
    return changed
