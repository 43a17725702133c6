"""A run of the gate, from two names of commits to its record."""

from __future__ import annotations

import os
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from acestep.weights.layout import ENVIRONMENT as SOURCE
from acestep.weights.layout import SYNTHETIC
from acestep.weights.sources import choose_source
from benchmarks._matrix import FILTER
from harness import console
from harness.errors import UsageError
from scripts.gate import exact
from scripts.gate.record import Commit, Fit, Machine, Record, Series, Verdict
from scripts.gate.sides import Side, checked_out, left_behind, what_differs
from scripts.gate.statistics import EXACT_THRESHOLD, THRESHOLD, judge, pairs_needed
from scripts.gate.suites import Reading, facts, readings
from scripts.gate.timing import Timed, Timing
from scripts.machine import NONE, gpu_facts, machine_facts

OVER, INTERRUPTED = "the time was over", "the gate was interrupted"  # why a series may be open
ORDER: tuple[Verdict, ...] = ("slower", "not measured", "cannot tell", "faster")  # the first that any has


def compare(
    base: str, head: str | None, budget_s: float, only: str = ""
) -> tuple[Record, KeyboardInterrupt | None]:
    """Compare two commits. `head` None is the working tree; `only`: a pattern of series' names. Returns what
    ended the timing early, too, so that it goes on once the record is told.

    Raises UsageError where there are not two, or no series has such a name.
    """
    started, start_s, load = datetime.now(UTC), time.monotonic(), os.getloadavg()[0]
    os.environ[SOURCE] = source = _source()
    with checked_out(base, head) as sides:
        timed = readings([source], only, exact=False)
        if not timed and not exact.chosen(only):
            raise UsageError(f"--only and {FILTER} leave no series to compare; see benchmarks/_matrix/")
        measured = _measured(sides, timed, only, start_s + budget_s)
    record = Record(
        base=sides[0].commit,
        head=sides[1].commit,
        verdict=measured.verdict,
        machine=_machine(load, measured.timing),
        source=Path(source).name[:200],
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - start_s, 1),
        budget_s=budget_s,
        rounds=measured.timing.rounds,
        threshold=THRESHOLD,
        exact_threshold=EXACT_THRESHOLD,
        series=tuple(measured.series),
        fits=tuple(measured.fits),
        notes=tuple(measured.notes),
        command=_command(sides[0].commit, sides[1].commit, only),
    )
    return record, measured.interrupt


class Measured(NamedTuple):
    """What a run has found."""

    verdict: Verdict
    series: list[Series]
    fits: list[Fit]
    notes: list[str]
    timing: Timing
    interrupt: KeyboardInterrupt | None = None


def _measured(sides: tuple[Side, Side], timed: list[Reading], only: str, until_s: float) -> Measured:
    """Compare what has no noise, then what has; neither where nothing differs that runs."""
    running, beside = what_differs(*sides)
    notes = list(filter(None, [left_behind(*sides)]))
    if beside:
        names = ", ".join(beside[:3]) + (f" and {len(beside) - 3} more" if len(beside) > 3 else "")
        notes.append(f"both sides ran with {names} as here, though the commits differ there")
    timing = Timing(sides, timed, until_s)
    if not running:
        return Measured("same", [], [], [*notes, "no file differs that runs: nothing was measured"], timing)
    predicted = exact.compare(*sides, only, until_s)
    _announce(predicted)
    interrupt = None
    try:
        timing.run()
    except KeyboardInterrupt as error:
        interrupt = error
        notes.append(f"{INTERRUPTED}: what was open then was measured no further")
    present = [one for one in timing.series if not one.absent]
    ended = INTERRUPTED if interrupt else OVER
    series = predicted.series + [_series(one, len(present), ended) for one in present]
    notes += _not_compared([*predicted.failures, *timing.failures], timing.shortage)
    if not series:
        notes.append("BASE has none of the numbers that were asked for: nothing was compared")
    return Measured(decide(series, predicted.fits), series, predicted.fits, notes, timing, interrupt)


def _not_compared(failures: Sequence[str], shortage: str) -> Iterator[str]:
    """What has no verdict because BASE failed at it, or a vague one because the time was over."""
    if failures:
        many = f"BASE failed at {len(failures)} series, which are compared with nothing: "
        yield f"{many}{failures[0]}"[:2000]
    if shortage:
        yield shortage


def _announce(predicted: exact.Exact) -> None:
    """Say at once what needs no clock."""
    counts = Counter(one.verdict for one in predicted.series)
    if counts:
        verdicts = ", ".join(f"{number} {verdict}" for verdict, number in counts.most_common())
        console.say("gate", f"predicted: {verdicts}; {len(predicted.fits)} fits changed; now timing")


def decide(series: Iterable[Series], fits: Iterable[Fit]) -> Verdict:
    """The verdict on all of them. A slower series is a fact whatever else went wrong."""
    verdicts = {one.verdict for one in series}
    if any(fit.head == exact.STATUS["oom"] for fit in fits):
        return "slower"
    if not verdicts:
        return "not measured"
    return next((verdict for verdict in ORDER if verdict in verdicts), "same")


def _source() -> str:
    """The weights that are timed, as every worker is told."""
    source, _ = choose_source(None, accelerator=gpu_facts()["gpu"] != NONE)
    return source if source in SYNTHETIC else str(Path(source).resolve())


def _series(one: Timed, series: int, ended: str) -> Series:
    known: dict[str, Any] = facts(one.reading) | {"kind": "timed"}
    if one.problem:
        return Series(**known, verdict="not measured", reason=one.problem[:2000])
    if not one.base:
        return Series(**known, verdict="cannot tell", reason=f"{ended} before it was measured")
    pairs, needed = len(one.base), pairs_needed(series)
    judgement = one.judgement or judge(one.base, one.head, one.reading.unit, 0.0)
    return Series(
        **known,
        verdict=judgement.verdict,
        base=median(one.base),
        head=median(one.head),
        ratio=judgement.ratio,
        ratio_low=judgement.low,
        ratio_high=_finite(judgement.high),
        detectable=_finite(judgement.detectable),
        samples_base=pairs,
        samples_head=pairs,
        reason="" if one.judgement else f"{pairs} pairs of {needed}: {ended}",
    )


def _finite(value: float) -> float | None:
    return value if value < 1e9 else None


def _machine(load_before: float, timing: Timing) -> Machine:
    known = machine_facts()
    return Machine(
        name=known["machine"],
        cpu=known["cpu"],
        cores=int(known["num_cpu"]),
        gpu=known["gpu"],
        torch=known["torch"],
        load_before=load_before,
        load_during=timing.load if timing.rounds else None,
        throttled=timing.throttled,
    )


def _command(base: Commit, head: Commit, only: str) -> str:
    """What measures the same again. Where weights lie in a folder stays private."""
    known = {name: value for name in (SOURCE, FILTER) if (value := os.environ.get(name))}
    if known[SOURCE] not in SYNTHETIC:
        del known[SOURCE]
    setting = [f"{name}={shlex.quote(value)}" for name, value in known.items()]
    words = ["python", "-m", "scripts.gate", base.sha[:12], *([] if head.working_tree else [head.sha[:12]])]
    return " ".join([*setting, shlex.join(words + (["--only", only] if only else []))])
