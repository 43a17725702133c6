"""Commits by figures: a table of Markdown for each machine, of the results that are there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from benchmarks._matrix import COST_CARD, COST_DURATIONS_S, COST_STAGES, DURATIONS_S, STEPS, THINKING
from scripts.changes.history import Commit, History, Machine, Series
from scripts.changes.results import Interval
from scripts.changes.show import UNLIKE, left_out, titled
from scripts.gate.causes import shown
from scripts.gate.markdown import code

STAGES = ("lm_prefill", "lm_decode", "diffuse", "vae_decode")  # those that take the time
CARD_GB = 8
COST = (COST_DURATIONS_S[0], 1, "turbo", "captured")
MOST_DOUBTS = 5
GAP = "n/a"


class Value(NamedTuple):
    """A figure of one commit, in the unit of its column, and the 99 % interval of a median."""

    value: float
    interval: Interval | None = None
    doubt: str | None = None


@dataclass(frozen=True)
class Size:
    """The generation whose figures are shown: one item at the fewest steps."""

    duration_s: int
    thinking: bool


Column = tuple[str, str, Callable[[int], Value | None]]  # its head, the unit, the figure at a commit's place


def columns(machine: Machine, size: Size) -> list[Column]:
    """The figures of a machine."""
    series = {one.name: one for one in machine.series}
    duration_s, thinking = size.duration_s, size.thinking

    def column(head: str, name: str, *params: object) -> Column:
        one = series.get(named(name, *params))
        return head, one.unit if one else "", partial(_value, one)

    wall = column("wall", "generate.TimeGenerate.track_wall", duration_s, 1, thinking, STEPS[0])
    launches = [series.get(named("costs.TrackCost.track_launches", stage, *COST)) for stage in COST_STAGES]
    return [
        wall,
        *(column(name, "generate.TrackStages.track_stage", name, duration_s, thinking) for name in STAGES),
        ("x_realtime", "x", lambda at: _inverse(wall[2](at), duration_s)),
        column(f"peak, {CARD_GB} GB", "memory.PeakMemTier.track_peak", CARD_GB, thinking),
        ("launches, predicted", "launches", partial(_sum, launches)),
    ]


def named(benchmark: str, *params: object) -> str:
    """A series as asv names it."""
    return f"{benchmark}({', '.join(map(repr, params))})"


def _value(series: Series | None, at: int) -> Value | None:
    if series is None or math.isnan(series.values[at]):
        return None
    return Value(series.values[at], series.intervals.get(at), series.doubts.get(at))


def _inverse(wall: Value | None, audio_s: float) -> Value | None:
    """Seconds of audio for each second of wall clock."""
    if wall is None or not wall.value:
        return None
    interval = None
    if wall.interval:
        low, high = wall.interval
        interval = audio_s / high, audio_s / low if low else math.inf
    return Value(audio_s / wall.value, interval, wall.doubt)


def _sum(series: list[Series | None], at: int) -> Value | None:
    """Of figures without noise; none where one is missing."""
    values = [_value(one, at) for one in series]
    return None if None in values else Value(sum(value.value for value in values if value))


def size_of(machine: Machine, duration_s: int | None, thinking: bool | None) -> Size:
    """What is asked for; else the shortest that was measured, planned where that was."""
    measured = {one.name for one in machine.series}
    sizes = [
        Size(length, plans)
        for plans in ([thinking] if thinking is not None else reversed(THINKING))
        for length in ([duration_s] if duration_s is not None else DURATIONS_S)
    ]
    wall = "generate.TimeGenerate.track_wall"
    known = (one for one in sizes if named(wall, one.duration_s, 1, one.thinking, STEPS[0]) in measured)
    return next(known, sizes[0])


def markdown(history: History, last: int, duration_s: int | None = None, thinking: bool | None = None) -> str:
    """A table for each machine, the one measured last first, of its `last` commits, the newest first."""
    machines = sorted(history.machines, key=lambda one: -max(one.measured.values()))
    lines = ["### History", ""]
    for machine in machines:
        lines += [*_table(history.commits, machine, size_of(machine, duration_s, thinking), last), ""]
    lines += [f"* {remark}" for remark in left_out(history, code)]
    return "\n".join([*lines, "", UNLIKE, ""])


def _table(commits: list[Commit], machine: Machine, size: Size, last: int) -> Iterator[str]:
    places = sorted(machine.measured, reverse=True)[:last]
    figures = columns(machine, size)
    yield f"#### {_facts(machine.facts)}, {code(machine.environment, 120)}"
    yield ""
    yield f"| commit | measured | {' | '.join(head for head, *_ in figures)} |"
    yield f"|---|---|{'---:|' * len(figures)}"
    doubts: dict[int, str] = {}
    for at in places:
        values = [value(at) for _, _, value in figures]
        if doubt := next((value.doubt for value in values if value and value.doubt), None):
            doubts[at] = doubt
        cells = (_cell(value, unit) for value, (_, unit, _) in zip(values, figures, strict=True))
        day = datetime.fromtimestamp(machine.measured[at] / 1e3, UTC).date() if machine.measured[at] else GAP
        yield f"| {titled(commits[at])} | {day} | {' | '.join(cells)} |"
    yield ""
    yield (
        f"One item of {size.duration_s} s, {'planned' if size.thinking else 'not planned'}, {STEPS[0]} steps:"
        f" medians, and the 99 % interval of each. Launches are predicted, for {COST[0]} s planned on an"
        f" {COST_CARD} with steps recorded, and have no noise."
    )
    if unmeasured := places[0] - places[-1] + 1 - len(places):
        yield f"* Commits between these that were not measured here: {unmeasured}."
    for at in sorted(doubts, reverse=True)[:MOST_DOUBTS]:
        yield f"* ? {code(commits[at].sha[:8])}: {doubts[at]}; not to be relied on."


def _facts(facts: Mapping[str, str]) -> str:
    known = (facts.get(name) for name in ("machine", "cpu", "gpu", "torch"))
    return ", ".join(code(fact) for fact in known if fact and fact != "none")


def _cell(value: Value | None, unit: str) -> str:
    if value is None:
        return GAP
    text = shown(value.value, unit)
    if value.interval:
        text += f" ({shown(value.interval[0], unit)} to {shown(value.interval[1], unit)})"
    return text.removesuffix(" launches") + (" ?" if value.doubt else "")
