"""Numbers of the page Speed: seconds that were measured, and the least that a card could take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from harness import cards
from harness.cards import Card
from harness.trace.stage_costs import PS, StageCosts, Work
from scripts.changes.history import Commit, History, Machine, Series

STAGES, WALL, COST = (
    "generate.TrackStages.track_stage",
    "generate.TimeGenerate.track_wall",
    "costs.TrackCost.",
)
TINY = "synthetic-tiny"
STEPS, VARIANT, MODE = "8", "turbo", "captured"  # of what is predicted and measured here
WORK = {
    "track_flop": "flop", "track_traffic": "read_bytes", "track_launches": "launches",
    "track_kernels": "kernels",
}  # fmt: skip
WEIGHTS = re.compile(r"ACESTEP_SOURCE-?(.+)$")


class Request(NamedTuple):
    """Music of `music_s` seconds, each of `batch` songs, with or without a plan by the language model."""

    music_s: int
    planned: bool = False
    batch: int = 1


@dataclass(frozen=True)
class Times:
    """What a machine's last timed commit took. `weights`: empty where nobody said; `card`: None where there
    is none that is known. Seconds, by request; of `stages` those that ran, and `doubts` has the reason where
    a time is not to be relied on."""

    machine: str
    commit: Commit
    weights: str
    card: Card | None
    walls: dict[Request, float]
    stages: dict[Request, dict[str, float]]
    doubts: dict[Request, str]


def measured(history: History, names: list[str]) -> list[Times]:
    """Of every machine that timed a generation, the last one first; `names` are theirs."""
    pairs = zip(history.machines, names, strict=True)
    newest = sorted(pairs, key=lambda pair: max(pair[0].measured.values(), default=0), reverse=True)
    return [times for machine, name in newest if (times := _times(history, machine, name))]


def _times(history: History, machine: Machine, name: str) -> Times | None:
    timed = [one for one in machine.series if one.benchmark in (STAGES, WALL) and _of_eight_steps(one)]
    at = max((at for one in timed for at, value in enumerate(one.values) if value > 0), default=None)
    if at is None:
        return None
    weights = WEIGHTS.search(machine.environment)
    card = _card(machine.facts)
    times = Times(name, history.commits[at], weights[1] if weights else "", card, {}, {}, {})
    for one in timed:
        request, value = _request(one), one.values[at]
        if value > 0:  # a clock that was set back gives others
            if one.benchmark == WALL:
                times.walls[request] = value
            else:
                times.stages.setdefault(request, {})[one.params["stage"]] = value
            if at in one.doubts:
                times.doubts[request] = one.doubts[at]
    return times


def _card(facts: dict[str, str]) -> Card | None:
    size = re.fullmatch(r"(\d{1,4}) GiB", facts.get("vram", ""))
    return cards.known(facts.get("gpu", ""), float(size[1])) if size else None


def _of_eight_steps(series: Series) -> bool:
    return series.params.get("steps", STEPS) == STEPS


def _request(series: Series) -> Request:
    known = series.params
    return Request(int(known["duration_s"]), known.get("thinking") == "True", int(known.get("batch", 1)))


class Predicted(NamedTuple):
    """Work of each stage of planned songs, at published shapes, by their length; and of which commit."""

    commit: Commit
    work: dict[int, dict[str, Work]]


def predicted(history: History) -> Predicted | None:
    """What the newest commit of which work was predicted does; None where none was."""
    costs = [one for machine in history.machines for one in machine.series if _is_cost(one)]
    at = max((at for one in costs for at, value in enumerate(one.values) if value > 0), default=None)
    if at is None:
        return None
    amounts: dict[tuple[int, str], dict[str, int]] = {}
    for one in costs:
        field, value = WORK.get(one.benchmark.removeprefix(COST)), one.values[at]
        if field and value >= 0:
            key = int(one.params["duration_s"]), one.params["stage"]
            amounts.setdefault(key, {})[field] = round(value)
    work: dict[int, dict[str, Work]] = {}
    for (music_s, stage), fields in amounts.items():
        if {"flop", "read_bytes"} <= fields.keys() and any(fields.values()):
            work.setdefault(music_s, {})[stage] = Work(**fields)
    return Predicted(history.commits[at], dict(sorted(work.items()))) if work else None


def _is_cost(series: Series) -> bool:
    known = series.params
    sort = known.get("variant"), known.get("mode"), known.get("batch")
    return series.benchmark.startswith(COST) and sort == (VARIANT, MODE, "1")


class Least(NamedTuple):
    """The least seconds of a stage on a card, and the resource that bounds it."""

    seconds: float
    bound: str


def least(card: Card, work: Work) -> Least:
    """A stage at the card's roofline, as one kernel: its arithmetic, traffic and launches overlap as well as
    can be, so no sum over its kernels is less."""
    costs = StageCosts(card)
    costs.charge(work)
    (stage,) = costs.stages.values()
    bound, ps = next(((bound, ps) for (_, bound), ps in stage.ps.items()), ("nothing", 0))
    return Least(float(ps) / PS, bound)


def roof(card: Card, lowest: float, highest: float) -> Iterator[tuple[float, float]]:
    """Corners of the roof between two FLOP per byte: each with the FLOP/s that the card reaches there."""
    ridge = card.flop_per_s / card.bytes_per_s
    for intensity in sorted({lowest, min(max(ridge, lowest), highest), highest}):
        yield intensity, min(card.flop_per_s, intensity * card.bytes_per_s)


class Confronted(NamedTuple):
    """A stage of `music_s` seconds of music that was predicted and measured, on one card at one commit."""

    card: Card
    machine: str
    music_s: int
    stage: str
    least: Least
    seconds: float


def confronted(times: Sequence[Times], work: Predicted | None) -> Iterator[Confronted]:
    """Measurements on cards of the very work that is predicted: planned songs, at published shapes, by the
    language model that goes without saying."""
    for one in times:
        usual = one.weights != TINY and "+" not in one.weights
        if not work or not one.card or not usual or one.commit != work.commit:
            continue
        for music_s, stages in work.work.items():
            seconds = one.stages.get(Request(music_s, planned=True), {})
            for stage in filter(seconds.__contains__, stages):
                of_stage = least(one.card, stages[stage])
                yield Confronted(one.card, one.machine, music_s, stage, of_stage, seconds[stage])
