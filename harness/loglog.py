"""Times against length on two logarithmic axes, as an SVG: a power of length is a straight line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

from markupsafe import Markup

from harness.chart import PALETTE
from harness.page import safe

WIDTH, HEIGHT = 760, 380  # in user units
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
MARGIN = 0.03  # of the range, beyond the outermost points
LEAST = 0.5  # decades of an axis, in which there are two ticks
STEPS = ((1,), (1, 2, 5), range(1, 10))  # of the ticks in a decade


class Curve(NamedTuple):
    """Seconds by length: `measured`, points on a line, and `predicted`, a dashed one; either may be empty."""

    name: str
    measured: Mapping[float, float]
    predicted: Mapping[float, float]


def svg(curves: Sequence[Curve], unit: str) -> Markup:
    """The picture of `curves`, which are not all empty, and what its colours mean; `unit`: of length."""
    points = [pair for curve in curves for side in curve[1:] for pair in side.items()]
    x, y = (_Axis(values, *ends) for values, ends in zip(zip(*points, strict=True), ENDS, strict=True))
    colours = dict(zip((curve.name for curve in curves), cycle(PALETTE), strict=False))
    drawn = (part for curve in curves for part in _curve(curve, colours[curve.name], x, y))
    parts = "".join((*_grid(x, y, unit), *drawn))
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{safe(name)}</span>' for name, colour in colours.items()
    )
    label = f'role="img" aria-label="seconds by {safe(unit)}"'
    return Markup(f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" {label}>{parts}</svg><p class="legend">{legend}</p>')


ENDS = ((LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP))  # of the axes, in user units


class _Axis:
    """From values above zero to user units, by their logarithms."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        low, high = math.log10(min(values)), math.log10(max(values))
        margin = max(MARGIN * (high - low), (LEAST - high + low) / 2)
        self._low, self._span = low - margin, high - low + 2 * margin
        self._start, self._reach = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + self._reach * (math.log10(value) - self._low) / self._span

    @property
    def ticks(self) -> list[float]:
        """Powers of ten in the range; where there are less than two, more of each decade."""
        powers = range(math.floor(self._low), math.ceil(self._low + self._span) + 1)
        every = ([step * 10.0**power for power in powers for step in steps] for steps in STEPS)
        inside = ([tick for tick in ticks if self._holds(tick)] for ticks in every)
        return next(ticks for ticks in inside if len(ticks) > 1)

    def _holds(self, value: float) -> bool:
        return 0 <= math.log10(value) - self._low <= self._span


def _grid(x: _Axis, y: _Axis, unit: str) -> Iterator[str]:
    top, floor, style = TOP, HEIGHT - BOTTOM, 'stroke="#8884"'
    for tick in x.ticks:
        yield f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{floor}" {style}/>'
        yield f'<text x="{x(tick):.1f}" y="{floor + 15}" text-anchor="middle">{tick:g}</text>'
    for tick in y.ticks:
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" {style}/>'
        yield f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g} s</text>'
    yield f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{safe(unit)}</text>'


def _curve(curve: Curve, colour: str, x: _Axis, y: _Axis) -> Iterator[str]:
    for points, dashes in ((curve.measured, ""), (curve.predicted, ' stroke-dasharray="5 4"')):
        path = "L".join(f"{x(length):.1f} {y(seconds):.1f}" for length, seconds in sorted(points.items()))
        if path:
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dashes}/>'
    for length, seconds in curve.measured.items():
        title = safe(f"{curve.name} {length:g}: {seconds:.4g} s")
        yield (
            f'<circle cx="{x(length):.1f}" cy="{y(seconds):.1f}" r="3" fill="{colour}">'
            f"<title>{title}</title></circle>"
        )
