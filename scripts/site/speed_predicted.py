"""Charts of cards: predicted, against each other and against what was measured and published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import geometric_mean
from typing import Any

from acestep.costs import anchors
from benchmarks._matrix import STAGES
from harness import cards
from harness.cards import Card
from scripts.site.charts import Chart
from scripts.site.speed_measured import chosen, coloured, stacked
from scripts.site.speed_numbers import Confronted, Least, Predicted, least, roof

CARDS = ("RTX 4090", "RTX 5090", "RTX 3090", "RTX 4060", "RTX 3060 12GB", "A100-80GB", "H100 80GB HBM3")
LARGE = 1e4  # FLOP/byte: no stage has more
SOURCES = {
    "predicted": {"filled": True, "size": 110, "opacity": 1},
    "measured": {"filled": False, "size": 220, "opacity": 1},
}

OnCards = Mapping[tuple[Card, int], Mapping[str, Least]]


def on_cards(work: Predicted | None) -> dict[tuple[Card, int], dict[str, Least]]:
    """The least that each stage takes, by card and seconds of music."""
    return {
        (card, music_s): {stage: least(card, stages[stage]) for stage in STAGES if stage in stages}
        for card in map(cards.find, CARDS)
        for music_s, stages in (work.work if work else {}).items()
    }


def least_s(stages: Mapping[str, Least]) -> float:
    """Of all stages together."""
    return sum(one.seconds for one in stages.values())


def brief(card: Card) -> str:
    """Its name without the brand."""
    return card.name.removeprefix("GeForce ")


def against_each_other(work: Predicted, predictions: OnCards) -> Chart:
    """Stages of a planned song on each card, on none of which it ran."""
    rows = [
        {
            "card": brief(card), "music_s": music_s, "place": least_s(stages), "stage": stage,
            "order": STAGES.index(stage), "seconds": one.seconds, "share": one.seconds / least_s(stages),
            "bound": one.bound,
        }
        for (card, music_s), stages in predictions.items()
        for stage, one in stages.items()
    ]  # fmt: skip
    lengths = sorted(work.work, reverse=True)
    bars = stacked("card", len(CARDS), list(dict.fromkeys(row["stage"] for row in rows)))
    return Chart(
        "cards", "Predicted: the least that each stage takes, by card",
        f"One planned song, 8 steps, bf16, at commit {work.commit.sha[:8]}, as if all models stayed on the"
        " card. Bars are limits of the hardware, not measurements.",
        {"card": "card", "music_s": "seconds of music", "stage": "stage", "seconds": "at least, s",
         "bound": "bound by"},
        rows, chosen("music_s", "seconds of music", lengths) | bars,
    )  # fmt: skip


def roofline(work: Predicted, predictions: OnCards, runs: Sequence[Confronted]) -> Chart:
    """FLOP/s by FLOP/byte: the roof of a card, and under it what its stages reach at most, or reached."""
    music_s = max(work.work)
    stages = {name: one for name, one in work.work[music_s].items() if one.flop and one.read_bytes}
    by_card = {card: least_of for (card, length), least_of in predictions.items() if length == music_s}
    rows: list[dict[str, Any]] = []
    for card, least_of in by_card.items():
        intensities = [one.flop / one.read_bytes for one in stages.values()]
        rows += [
            _point(card, "the roof", *corner, "peak of the card")
            for corner in roof(card, min(1.0, *intensities), max(LARGE, *intensities))
        ]
        for name, one in stages.items():
            rate, bound = one.flop / least_of[name].seconds, least_of[name].bound
            rows.append(_point(card, name, one.flop / one.read_bytes, rate, "predicted", bound))
    for run in runs:
        if run.music_s == music_s and run.stage in stages and run.card in by_card:
            one = stages[run.stage]
            rate = one.flop / run.seconds
            rows.append(_point(run.card, run.stage, one.flop / one.read_bytes, rate, "measured"))
    sources = [name for name in SOURCES if any(row["source"] == name for row in rows)]
    first = next(iter(by_card))
    waiting = [name for name in stages if by_card[first][name].bound != "compute"]
    return Chart(
        "roofline", f"Roofline: what bounds each stage of {music_s} s of music",
        f"On {brief(first)} {_listed(waiting)} not bound by arithmetic. {_runs(sources)}",
        {"card": "card", "stage": "stage", "intensity": "FLOP/byte", "rate": "TFLOP/s", "source": "source",
         "bound": "bound by"},
        rows, chosen("card", "card", [brief(card) for card in by_card]) | _under_roof(sources, list(stages)),
    )  # fmt: skip


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}" if names else "no stage is"


def _runs(sources: Sequence[str]) -> str:
    if "measured" in sources:
        return "Filled points are predicted, rings were measured."
    return "All points are predicted: on none of these cards was the same work measured."


def _point(
    card: Card, stage: str, intensity: float, rate: float, source: str, bound: str = ""
) -> dict[str, Any]:
    return {
        "card": brief(card), "stage": stage, "intensity": intensity, "rate": rate / 1e12, "source": source,
        "bound": bound,
    }  # fmt: skip


def against_measured(runs: Sequence[Confronted]) -> Chart:
    """Seconds that were predicted, and what was published or measured: the nearer to the line the better."""
    published = list(_published())
    inside = sum(row["low"] <= row["seconds"] <= row["high"] for row in published)
    off = geometric_mean([max(row["ratio"], 1 / row["ratio"]) for row in published]) - 1
    here = "of what was measured here the prediction is a bound" if runs else "no card was measured here yet"
    return Chart(
        "predicted-measured", "Predicted against measured",
        f"{inside} of {len(published)} published figures lie in the range that the others let expect, whose"
        f" middle is {off:.0%} off; {here}.",
        {"card": "card", "what": "what", "by": "by", "source": "source", "seconds": "measured, s",
         "middle": "predicted, s", "low": "from, s", "high": "to, s", "ratio": "measured / predicted"},
        [*published, *map(_run, runs)], _SCATTER,
    )  # fmt: skip


def _published() -> Iterator[dict[str, Any]]:
    """Figures of eager PyTorch, each expected by the others, from low to high."""
    figures = anchors.read()
    for one in figures:
        if one.comparable:
            low, high = anchors.expected_s(one, figures)
            seconds, middle = geometric_mean(one.published), geometric_mean((low, high))
            yield {
                "card": one.card, "what": one.name, "by": one.by, "source": "published", "seconds": seconds,
                "middle": middle, "low": low, "high": high, "ratio": seconds / middle,
            }  # fmt: skip


def _run(run: Confronted) -> dict[str, Any]:
    """A stage beside the least that it could take, of which nobody knows how much is reached."""
    least_s = run.least.seconds
    return {
        "card": brief(run.card), "what": f"{run.stage}, {run.music_s} s", "by": run.machine,
        "source": "measured here", "seconds": run.seconds, "middle": least_s, "low": least_s, "high": None,
        "ratio": run.seconds / least_s,
    }  # fmt: skip


def _log(field: str, title: str) -> dict[str, Any]:
    """An axis of a logarithmic scale."""
    axis = {"format": "~g", "tickCount": 5}
    scale = {"type": "log", "nice": True}
    return {"field": field, "type": "quantitative", "title": title, "scale": scale, "axis": axis}


_IN_PLACE = {"x": _log("intensity", "FLOP/byte"), "y": _log("rate", "TFLOP/s")}
_TOLD = [{"field": name} for name in ("stage", "source", "bound", "intensity", "rate")]
_ROOF = {
    "transform": [{"filter": "datum.stage == 'the roof'"}],
    "mark": {"type": "line", "color": "gray"},
    "encoding": _IN_PLACE,
}


def _under_roof(sources: Sequence[str], stages: Sequence[str]) -> dict[str, Any]:
    """Of the chart's specification: the roof, and points of each source, a mark for each stage."""
    colour = coloured(stages)
    shape = {"field": "stage", "title": None, "scale": {"domain": stages}}
    points = [
        {
            "transform": [{"filter": f"datum.source == '{source}'"}],
            "mark": {"type": "point", **SOURCES[source]},
            "encoding": _IN_PLACE | {"color": colour, "shape": shape, "tooltip": _TOLD},
        }
        for source in sources
    ]
    return {"height": 300, "layer": [_ROOF, *points]}


_PREDICTED, _MEASURED = _log("middle", "seconds, predicted"), _log("seconds", "seconds, measured")
_CARD = {"field": "card", "title": None}
_SCATTER: dict[str, Any] = {
    "height": 300,
    "layer": [
        {
            "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray"},
            "encoding": {"x": _PREDICTED | {"field": "seconds"}, "y": _MEASURED},
        },
        {
            "transform": [{"filter": "datum.high !== null"}],
            "mark": "rule",
            "encoding": {"x": _PREDICTED | {"field": "low"}, "x2": {"field": "high"}, "y": _MEASURED},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90},
            "encoding": {
                "x": _PREDICTED, "y": _MEASURED, "color": _CARD, "shape": _CARD,
                "tooltip": [{"field": name} for name in ("card", "what", "source", "seconds", "low", "high")],
            },
        },
    ],
}  # fmt: skip
