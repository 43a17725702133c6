"""Change points of a series of measurements: where its level moved, and by how much.

A series is piecewise constant plus noise, on a log scale. Its levels minimise a sum of squares, each bounded
(biweight loss), plus PENALTY for every change: a lone outlier costs less than a change, two measurements
that agree cost more. Over all ways to cut, and levels a quarter of a noise width apart, the minimum is found
by the dynamic programme of

    Fearnhead and Rigaill, Changepoint Detection in the Presence of Outliers, JASA 114 (2019), 169-183,
    https://doi.org/10.1080/01621459.2017.1385466

whose penalty and bound are set here by simulation (tests/scripts/test_change_points.py): a step of five noise
widths is found once two commits of it are measured, and noise alone gives a change in fewer than 8 of 100
histories of 60 commits. The width of the noise is that of the differences of neighbours, which steps and
outliers do not widen: the largest quarter of them is left out.

Noise that lasts from one commit to the next, of a lag-1 autocorrelation r above what chance gives, is wider
than its differences: by sqrt((1 + r) / (1 - r)), with which the levels are fitted again. Some of its waves
are taken for steps still, at 3 % noise in 60 commits 0.09 for r = 0.2 and 0.3 for r = 0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

PENALTY = (
    13.0  # of a change, in squared noise widths; below twice BOUND, or two agreeing points change nothing
)
BOUND = 12.0  # of what one measurement may cost; below PENALTY, or a lone one is a change
GRID = 0.25  # between two levels that are tried, in noise widths
KEPT = 0.75  # share of the differences that the noise is read from
KEPT_VARIANCE = 0.3684  # of the standard normal cut off at its 75 % quantile of absolute values
MOST_CORRELATION = 0.8  # of neighbours; with more there is no level
LEAST_NOISE = 0.002  # clocks and schedulers do no better
LEAST_POINTS = 5  # fewer differences than four say nothing of noise
EXACT = 0.005  # relative; more is a change where there is no noise
LEAST_STEP = 0.02  # relative; less is told of no series that has noise
CONFIDENCE = 1.96  # widths of the normal on either side of 95 %
FOUND = 5.0  # widths of noise that two measurements are enough for
SHIFT = 3.84  # cost at which a change may as well be elsewhere: 95 % of chi-squared with one degree


@dataclass(frozen=True, slots=True)
class Change:
    """A level that moved. Positions count the values, `nan` among them.

    `at` is the first of the new level; it may as well be any from `earliest` to `latest`. A drift goes on
    from `at` to `latest`. `low` and `high` bound the ratio of the levels with 95 % confidence; or
    their difference, where that is compared.
    """

    at: int
    earliest: int
    latest: int
    before: float
    after: float
    low: float
    high: float
    drift: bool = False

    @property
    def ratio(self) -> float:
        """After over before; infinite from zero."""
        return self.after / self.before if self.before else math.inf


def noise(values: Sequence[float]) -> float:
    """Relative width (standard deviation) of the noise of positive `values`; `nan` of fewer than five."""
    logs = np.log(_measured(values)[1])
    return _fitted(logs)[0] if len(logs) >= LEAST_POINTS else math.nan


def detectable(width: float) -> float:
    """The least relative step that is found once two commits of it are measured, 95 times of 100, at noise
    `width`; smaller ones take more."""
    return max(math.expm1(FOUND * width), LEAST_STEP)


def exact_changes(values: Sequence[float], *, by_difference: bool = False) -> list[Change]:
    """Changes of a series without noise: every value half a percent from where its level began; any other
    value, where values are compared by difference."""
    changes, level = [], math.nan
    for at, value in zip(*_measured(values, least=-math.inf), strict=True):
        if math.isnan(level):
            level = float(value)
        elif abs(value - level) > (0 if by_difference else EXACT * abs(level)):
            step = value - level if by_difference else value / level if level else math.inf
            changes.append(Change(int(at), int(at), int(at), level, float(value), step, step))
            level = float(value)
    return changes


def noisy_changes(values: Sequence[float], *, by_difference: bool = False) -> list[Change]:
    """Changes of a series with noise; `nan` is a commit without a measurement, or with a doubtful one.

    Values that are compared by difference have any sign, and are fitted as the logarithms of others are.
    """
    places, measured = _measured(values, -math.inf if by_difference else 0.0)
    if len(measured) < LEAST_POINTS:
        return []
    logs = measured if by_difference else np.log(measured)
    width, cuts = _fitted(logs)
    changes = [_placed(one, places) for one in _described(logs / width, cuts, width)]
    if by_difference:
        return changes
    return [_of_ratios(one) for one in changes if abs(one.after - one.before) >= math.log1p(LEAST_STEP)]


def lone_last(values: Sequence[float]) -> float | None:
    """Ratio of the last of `values` to the level before it, where no noise explains it and no second value
    bears it out; None otherwise."""
    places, measured = _measured(values)
    if len(measured) < LEAST_POINTS or places[-1] != len(values) - 1:
        return None
    *_, last = [None, *noisy_changes(measured.tolist())]
    if last and last.drift and last.latest == len(measured) - 1:
        return None  # there is no level that the last one could be far from
    start = 0 if last is None else (last.at + last.latest + 1) // 2 if last.drift else last.at
    level = float(np.median(measured[start:]))
    width = max(_fitted(np.log(measured))[0], math.log1p(LEAST_STEP) / math.sqrt(BOUND))
    *_, far_before, far = _loss(np.log(measured / level) / width) >= BOUND
    return float(measured[-1] / level) if far and not far_before else None


def _measured(values: Sequence[float], least: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values above `least`: nothing else has a place on a log scale."""
    array = np.asarray(values, dtype=float)
    places = np.flatnonzero(array > least)
    return places, array[places]


def _fitted(logs: np.ndarray) -> tuple[float, list[int]]:
    """Width of the noise, and the first positions of all levels but the first."""
    width = _width(logs)
    cuts = _cuts(logs / width)
    correlation = _correlation(logs / width, cuts)
    if correlation <= 1 / math.sqrt(len(logs)):  # its standard error where there is none
        return width, cuts
    width *= math.sqrt((1 + correlation) / (1 - correlation))
    return width, _cuts(logs / width)


def _correlation(scaled: np.ndarray, cuts: list[int]) -> float:
    """Lag-1 autocorrelation around the levels that `cuts` begin, MOST_CORRELATION at most."""
    parts = [part - _level(part) for part in np.split(scaled, cuts)]
    bound = math.sqrt(BOUND)
    residuals = np.clip(np.concatenate(parts), -bound, bound)
    products = np.delete(residuals[:-1] * residuals[1:], [cut - 1 for cut in cuts])
    variance = float((residuals**2).mean())
    return min(float(products.mean()) / variance, MOST_CORRELATION) if len(products) and variance else 0.0


def _width(logs: np.ndarray) -> float:
    """Width of the noise around levels that move seldom."""
    squares = np.sort(np.diff(logs) ** 2)
    kept = squares[: math.ceil(KEPT * len(squares))]
    return max(math.sqrt(kept.mean() / KEPT_VARIANCE / 2), LEAST_NOISE)


def _loss(distance: np.ndarray) -> np.ndarray:
    return np.minimum(distance**2, BOUND)


def _cuts(scaled: np.ndarray) -> list[int]:
    """First positions of all levels but the first, of values in noise widths."""
    around = np.arange(-2, 2 + GRID, GRID)
    levels = np.unique(np.round((scaled[:, None] + around) / GRID)) * GRID
    losses = _loss(scaled[:, None] - levels)
    cost = losses[0].copy()
    cheapest, changed = np.zeros(len(scaled), int), np.zeros(losses.shape, bool)
    for position in range(1, len(scaled)):
        cheapest[position] = cost.argmin()
        with_change = cost[cheapest[position]] + PENALTY
        changed[position] = with_change < cost
        cost = np.minimum(cost, with_change) + losses[position]
    cuts, level = [], int(cost.argmin())
    for position in range(len(scaled) - 1, 0, -1):
        if changed[position, level]:
            cuts.append(position)
            level = cheapest[position]
    return cuts[::-1]


def _described(scaled: np.ndarray, cuts: list[int], width: float) -> Iterator[Change]:
    """The changes at `cuts`; those of one direction that a line fits better than steps are one drift."""
    edges = [0, *cuts, len(scaled)]
    segments = [scaled[start:stop] for start, stop in pairwise(edges)]
    levels = [_level(segment) for segment in segments]
    first = 0
    while first < len(cuts):
        rising, last = levels[first + 1] > levels[first], first
        while last + 1 < len(cuts) and (levels[last + 2] > levels[last + 1]) == rising:
            last += 1
        begin, end = edges[first], edges[last + 2]
        steps = sum(_loss(segments[i] - levels[i]).sum() for i in range(first, last + 2))
        drift = _line(scaled[begin:end], steps + PENALTY * (last - first - 1 / 2))
        if drift:
            yield _change(begin, begin, end - 1, *drift, width * math.sqrt(12 / (end - begin)), width, True)
        else:
            for i in range(first, last + 1):
                near = 1 / len(segments[i]) + 1 / len(segments[i + 1])
                where = _where(scaled, edges[i : i + 3], levels[i : i + 2])
                yield _change(cuts[i], *where, levels[i], levels[i + 1], width * math.sqrt(near), width)
        first = last + 1


def _level(segment: np.ndarray) -> float:
    """Mean of what is no outlier."""
    inside = segment[_loss(segment - np.median(segment)) < BOUND]
    return float((inside if len(inside) else segment).mean())


def _line(segment: np.ndarray, limit: float) -> tuple[float, float] | None:
    """Both ends of the line through what is no outlier of it; None where its loss is over `limit`."""
    places, kept = np.arange(len(segment)), np.ones(len(segment), bool)
    for _ in range(2):
        slope, start = np.polyfit(places[kept], segment[kept], 1)
        losses = _loss(segment - start - slope * places)
        kept = losses < BOUND
        if kept.sum() < LEAST_POINTS:
            return None
    return (float(start), float(start + slope * places[-1])) if losses.sum() < limit else None


def _where(scaled: np.ndarray, edges: Sequence[int], levels: Sequence[float]) -> tuple[int, int]:
    """Where the middle edge may as well be, between the outer two."""
    start, cut, stop = edges
    nearer_before = _loss(scaled - levels[1]) - _loss(scaled - levels[0])  # cost of being on the other side
    earliest = latest = cut
    while earliest - 1 > start and nearer_before[earliest - 1 : cut].sum() < SHIFT:
        earliest -= 1
    while latest + 1 < stop and -nearer_before[cut : latest + 1].sum() < SHIFT:
        latest += 1
    return earliest, latest


def _change(
    at: int, earliest: int, latest: int, before: float, after: float, error: float, width: float,
    drift: bool = False,
) -> Change:  # fmt: skip
    """A change between levels in noise widths, told in logarithms; `error` is that of their difference."""
    step, margin = (after - before) * width, CONFIDENCE * error
    return Change(at, earliest, latest, before * width, after * width, step - margin, step + margin, drift)


def _of_ratios(change: Change) -> Change:
    """What is told in logarithms, by what they are of."""
    names = "before", "after", "low", "high"
    return replace(change, **{name: math.exp(getattr(change, name)) for name in names})


def _placed(change: Change, places: np.ndarray) -> Change:
    """The same, by positions among all values."""
    at, earliest, latest = (int(places[i]) for i in (change.at, change.earliest, change.latest))
    return replace(change, at=at, earliest=earliest, latest=latest)
