"""How the items of a `scaling` record grow with length: lines of 80 columns, and a page with a plot.

Everything is computed from the items. No torch import here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from acestep.setup import Setup
from harness.cards import Card
from harness.loglog import Curve, svg
from harness.page import render
from harness.records.schema import Item
from harness.scaling import FEWEST_LENGTHS, Estimate, Growth, exponent, fit, line
from harness.text import harmless, wrapped

WIDTH = 80
NONE = "—"
TEMPLATE = Path(__file__).with_name("scaling.html")
ROW_HEADS = ("component", "length", "work", "ms", "spread", "predicted ms", "GFLOP")
ROW_WIDTHS = (12, 11, 19, 8, 7, 13, 10)
HEADS = ("component", "exponent", "ms per s (token)", "intercept, ms")
WIDTHS = (12, 23, 23, 22)
NOTE = (
    "seconds ~ length^exponent; seconds = intercept + slope * length. Where there is an intercept, the "
    "exponent is below that of what grows. In brackets 95 % of a bootstrap over the samples, of which few "
    "make it too narrow. Predicted: seconds at the roofline, and the exponent of FLOP."
)
Predicted = Mapping[str, Any]


class Grown(NamedTuple):
    """A component: its items, in the order of their lengths, and the growth of those that were measured."""

    component: str
    items: tuple[Item, ...]
    growth: Growth | None

    @property
    def predicted(self) -> dict[float, float]:
        """Predicted seconds by length."""
        return {length: float(cost["seconds"]) for length, cost in self._costs()}

    @property
    def flop(self) -> dict[float, float]:
        """Predicted FLOP by length."""
        return {length: float(sum(cost["flop"].values())) for length, cost in self._costs()}

    @property
    def measured(self) -> dict[float, float]:
        """Median seconds by length."""
        return {length: median(times) for length, times in samples(self.items).items()}

    def _costs(self) -> Iterable[tuple[float, Predicted]]:
        return [
            (_length(item), item.effective["predicted"]) for item in self.items if item.effective["predicted"]
        ]


def grown(items: Iterable[Item], seed: int) -> list[Grown]:
    """The growth of each component; None where fewer than two lengths were measured."""
    growths = []
    for component, own in groupby(items, key=lambda item: str(item.requested["component"])):
        own = tuple(own)
        times = samples(own)
        growths.append(Grown(component, own, fit(times, seed=seed) if len(times) >= FEWEST_LENGTHS else None))
    return growths


def samples(items: Iterable[Item]) -> dict[float, list[float]]:
    """Seconds of each length that was measured."""
    return {_length(item): [one.wall_s for one in item.samples] for item in items if item.samples}


def row_head() -> str:
    return _columns(ROW_HEADS, ROW_WIDTHS)


def row(item: Item) -> str:
    """A component at a length, or why there is no time."""
    cost = item.effective["predicted"]
    length = f"{_length(item):g} {item.requested['unit']}"
    cells = [str(item.requested["component"]), length]
    if item.median_s is None:
        return harmless(f"{_columns(cells, ROW_WIDTHS)} {item.status}: {item.error}")
    name, count = next(iter(item.counts.items()))
    cells += [f"{count:,} {name}", number(1e3 * item.median_s)]
    cells.append(NONE if item.spread is None else f"{item.spread:.0%}")
    cells += (
        [number(1e3 * cost["seconds"]), number(sum(cost["flop"].values()) / 1e9)] if cost else [NONE, NONE]
    )
    return _columns(cells, ROW_WIDTHS)


def growth_lines(items: Iterable[Item], seed: int) -> list[str]:
    """The verdict, the table of growth, what its intervals cannot tell, and what is n/a."""
    every = grown(items, seed)
    lines = [*wrapped(verdict(every), WIDTH), "", _columns(HEADS, WIDTHS)]
    lines += [_columns(shown, WIDTHS) for one in every for shown in _shown(one)]
    lines.append(_columns(("mel", "n/a: ACE-Step has none"), WIDTHS))
    return [*lines, "", *wrapped(NOTE, WIDTH), *untold(every)]


def verdict(every: Sequence[Grown]) -> str:
    """What grows fastest with length, and how many points there are."""
    items = [item for one in every for item in one.items]
    counts = Counter(item.status for item in items)
    points = f"{counts['ok']} of {len(items)} points measured"
    points += "".join(f", {number} {status}" for status, number in counts.items() if status != "ok")
    steepest = max((one for one in every if one.growth), key=_exponent, default=None)
    if steepest is None:
        return f"{points}: growth of none is known."
    return f"{points}: {steepest.component} grows fastest, as length^{_exponent(steepest):.2f}."


def _exponent(one: Grown) -> float:
    assert one.growth
    return one.growth.exponent.value


def _shown(one: Grown) -> list[tuple[str, ...]]:
    """The lines of a component."""
    return [cells(one), *([predicted_cells(one)] if len(one.predicted) >= FEWEST_LENGTHS else [])]


def cells(one: Grown) -> tuple[str, ...]:
    """The measured line of a component."""
    if one.growth is None:
        reasons = [item.error for item in one.items if item.error]
        return one.component, f"n/a: {harmless(reasons[0]) if reasons else 'fewer than two lengths'}"
    growth = one.growth
    return (
        one.component,
        _interval(growth.exponent),
        _interval(growth.slope, 1e3),
        _interval(growth.intercept, 1e3),
    )


def predicted_cells(one: Grown) -> tuple[str, ...]:
    """The predicted line of a component, which has no noise."""
    of, fitted = one.predicted, line(one.predicted)
    exponents = f"{number(exponent(of))}, FLOP {number(exponent(one.flop))}"
    return "  predicted", exponents, number(1e3 * fitted.slope), number(1e3 * fitted.intercept)


def untold(every: Iterable[Grown]) -> list[str]:
    """Lines that say which numbers the intervals do not tell apart."""
    known = [(one.component, one.growth) for one in every if one.growth]
    questions = {
        "exponent from 1": [name for name, growth in known if not growth.exponent.tells_from(1)],
        "intercept from 0": [name for name, growth in known if not growth.intercept.tells_from(0)],
    }
    return [
        text
        for what, names in questions.items()
        if names
        for text in wrapped(f"cannot tell {what}: {', '.join(names)}", WIDTH)
    ]


def page(items: Sequence[Item], card: Card, setup: Setup, seed: int) -> str:
    """The whole document: growth, plots, and every time."""
    every = grown(items, seed)
    rows = [shown for one in every for shown in _shown(one)]
    plots = []
    for unit in dict.fromkeys(str(item.requested["unit"]) for item in items):
        own = [one for one in every if one.items[0].requested["unit"] == unit]
        curves = [Curve(one.component, one.measured, one.predicted) for one in own if one.measured]
        if len({length for curve in curves for length in curve.measured}) >= FEWEST_LENGTHS:
            plots.append((f"length in {'seconds of audio' if unit == 's' else unit}", svg(curves, unit)))
    return render(
        TEMPLATE,
        title="Growth with length",
        heading="How seconds grow with length",
        facts=f"{setup.source}, {setup.accelerator.name}; predicted: {card.name}, not measured",
        heads=HEADS,
        rows=[(*shown, *[""] * (len(HEADS) - len(shown))) for shown in rows],
        note=NOTE,
        untold=untold(every),
        plots=plots,
    )


def number(value: float) -> str:
    """Three digits, never as a power of ten where they are fewer than seven."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _interval(estimate: Estimate, scale: float = 1.0) -> str:
    """Three digits, and no more than three after the point: a column holds any sign."""
    value, low, high = (None if bound is None else _short(scale * bound) for bound in estimate)
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def _short(value: float) -> str:
    return number(value) if abs(value) >= 0.1 else f"{value:.3f}"


def _length(item: Item) -> float:
    return float(item.requested["length"])


def _columns(cells: Iterable[str], widths: Sequence[int]) -> str:
    return " ".join(cell.ljust(width - 1) for cell, width in zip(cells, widths, strict=False)).rstrip()
