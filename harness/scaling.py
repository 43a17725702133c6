"""How seconds grow with length: exponent, slope and intercept, each with a bootstrap interval.

    growth = fit({5: (0.11, 0.12, 0.11), 30: (0.53, 0.55, 0.54), 60: (1.04, 1.05, 1.07)})
    growth.slope.value, growth.slope.low, growth.slope.high      # seconds per unit of length

Two models of the medians, each told by itself:

* exponent: the slope of log seconds over log length, by ordinary least squares, so seconds ~ length^exponent;
* slope and intercept: seconds = intercept + slope * length, by least squares weighted by 1 / seconds^2. The
  spread of a time is about in proportion to it, so relative residuals are what is alike at all lengths;
  unweighted, the longest alone would place the line, and its noise would be the intercept.

The exponent is the raw one. Seconds of a + b * length have the local log-log slope b * length / (a + b *
length), which is below 1 and nears it only where the line has left its intercept behind; in the same way an
intercept lowers any exponent. Taking the intercept off first would not mend that: it was found by assuming
an exponent of 1, and would lead back to it. Read the exponent beside the intercept.

Intervals are percentiles of the same estimates of resampled times (Efron and Tibshirani 1993, An
Introduction to the Bootstrap, 13): of each length as many as there are, drawn with replacement. They hold
what times scattered by, not what the model of a line or of a power misses, and of few samples they are too
narrow. Of one sample there are none.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

DRAWS = 1000
LEVEL = 0.95  # of the intervals
FEWEST_LENGTHS = 2
Points = Mapping[float, float]  # a value by length


class Estimate(NamedTuple):
    """A number and the interval it lies in; bounds are None where samples are too few for one."""

    value: float
    low: float | None = None
    high: float | None = None

    def tells_from(self, value: float) -> bool:
        """Whether the interval leaves `value` out."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


class Growth(NamedTuple):
    """`exponent` of seconds ~ length^exponent; of the line `slope`, in seconds per unit of length, and
    `intercept`, in seconds."""

    exponent: Estimate
    slope: Estimate
    intercept: Estimate


class Line(NamedTuple):
    """intercept + slope * length."""

    slope: float
    intercept: float


def fit(
    samples: Mapping[float, Sequence[float]], *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Growth:
    """The growth of `samples`: seconds of each length. The same `seed` gives the same intervals.

    Raises ValueError for fewer than two lengths, and for a length or a time that is not above zero.
    """
    values = _estimates({length: median(times) for length, times in samples.items()})
    if min(map(len, samples.values())) < 2:
        return Growth(*map(Estimate, values))
    lot = random.Random(seed)
    drawn = [
        _estimates({length: median(lot.choices(times, k=len(times))) for length, times in samples.items()})
        for _ in range(draws)
    ]
    intervals = (_percentiles(sorted(estimates), level) for estimates in zip(*drawn, strict=True))
    return Growth(*(Estimate(value, *bounds) for value, bounds in zip(values, intervals, strict=True)))


def exponent(points: Points) -> float:
    """The slope of log value over log length. Raises as `fit` does."""
    _check(points)
    logs = {math.log(length): math.log(value) for length, value in points.items()}
    return _line(logs, [1.0] * len(logs)).slope


def line(points: Points) -> Line:
    """The line that relative residuals are least of. Raises as `fit` does."""
    _check(points)
    return _line(points, [value**-2 for value in points.values()])


def _estimates(points: Points) -> tuple[float, float, float]:
    fitted = line(points)
    return exponent(points), fitted.slope, fitted.intercept


def _line(points: Points, weights: Sequence[float]) -> Line:
    total = math.fsum(weights)
    middle_x, middle_y = (
        math.fsum(map(math.prod, zip(weights, values, strict=True))) / total
        for values in (points.keys(), points.values())
    )
    rows = [(w, x - middle_x, y - middle_y) for w, (x, y) in zip(weights, points.items(), strict=True)]
    slope = math.fsum(w * x * y for w, x, y in rows) / math.fsum(w * x * x for w, x, _ in rows)
    return Line(slope, middle_y - slope * middle_x)


def _percentiles(ordered: Sequence[float], level: float) -> tuple[float, float]:
    outside = int(len(ordered) * (1 - level) / 2)
    return ordered[outside], ordered[-1 - outside]


def _check(points: Points) -> None:
    if len(points) < FEWEST_LENGTHS:
        raise ValueError(f"points: {len(points)} lengths have no slope; {FEWEST_LENGTHS} are the fewest")
    if wrong := [point for point in points.items() if min(point) <= 0]:
        raise ValueError(f"points: {wrong[0]} is not above zero, and has no logarithm")
