"""Is it slower? An interval of the ratio of two times, and what may be said of it.

Both commits run one after the other, in an order drawn by lot, many times over: pairs. The ratio of a pair
has in it what the machine did meanwhile. Had the two commits the same speed, a pair would be as likely to
come out the other way round whatever that was, bursts, drifts and neighbours included, for the lot decided
which of them met it (Fisher 1935, The Design of Experiments, 21). So the logarithms of the ratios scatter
symmetrically around that of the true one, and Wilcoxon's signed-rank test, turned into an interval by the
averages of all two pairs, holds without an assumption about the noise (Hodges and Lehmann 1963; Tukey's
construction, in Hollander, Wolfe and Chicken 2014, 3.3). Few outliers do not move it. What stays for the
life of a process, as the layout of its memory does, is met by several processes.

Many series are judged at once, more than once: a series gets its share of FAMILY (Bonferroni), and each look
at it a part of that, half, a sixth, a twelfth, which add up to one. A few pairs give no interval at all,
however alike they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, median
from typing import NamedTuple

FAMILY = 0.001  # chance of one false alarm or more, of a whole run
THRESHOLD = 0.10  # a smaller slowdown is none
FLOOR_S = 0.002  # a smaller difference is none, whatever the ratio
EXACT_THRESHOLD = 0.005  # of what has no noise
COUNTED_TO = 60  # values
WHOLE = ("launches", "syncs")  # whole numbers: one more is more


class Interval(NamedTuple):
    """The most likely value and what it may be; bounds are infinite where that cannot be said."""

    estimate: float
    low: float
    high: float


def share(series: int, look: int) -> float:
    """The chance of a false alarm that one of `series` series has at its `look`th look, from 1."""
    return FAMILY / max(series, 1) / (look * (look + 1))


def pairs_needed(series: int) -> int:
    """The fewest pairs that give an interval at the first look."""
    return math.ceil(-math.log2(share(series, 1)))


def interval(values: Sequence[float], chance: float) -> Interval:
    """Where the centre of symmetry of `values` is; above or below it with a probability of `chance` each."""
    averages = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    if not averages:
        return Interval(math.nan, -math.inf, math.inf)
    estimate = median(averages)
    left_out = _left_out(len(values), chance)
    if left_out < 0:
        return Interval(estimate, -math.inf, math.inf)
    return Interval(estimate, averages[left_out], averages[-1 - left_out])


@cache
def _left_out(n: int, chance: float) -> int:
    """How many averages lie outside the interval on each side; -1 where n values have none.

    Counted for few values. For many the rank sum is normal but for lighter tails, so the interval is wider.
    """
    if n > COUNTED_TO and chance > 0:
        middle, spread = n * (n + 1) / 4, math.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return math.floor(middle + NormalDist().inv_cdf(chance) * spread - 0.5)
    most, below = chance * 2**n, 0
    for rank_sum, ways in enumerate(_ways(n)):
        below += ways
        if below > most:
            return rank_sum - 1
    return -1


def _ways(n: int) -> list[int]:
    """How many subsets of 1..n have the sum that is the place in the list."""
    ways = [1]
    for rank in range(1, n + 1):
        longer = ways + [0] * rank
        ways = [longer[i] + (ways[i - rank] if i >= rank else 0) for i in range(len(longer))]
    return ways


class Judgement(NamedTuple):
    """A verdict and what it rests on; ratios are head over base."""

    verdict: str
    ratio: float
    low: float
    high: float
    detectable: float  # the smallest slowdown that would have shown


def judge(base: Sequence[float], head: Sequence[float], unit: str, chance: float) -> Judgement:
    """The verdict on pairs of times, `base[i]` and `head[i]` beside one another.

    `slower`: surely so, and by more than THRESHOLD as far as can be said. `same`: surely by no more. What is
    neither is `cannot tell`. `faster` is `slower` with the sides exchanged.
    """
    logs = interval([math.log(b / a) for a, b in zip(base, head, strict=True)], chance)
    differences = interval([b - a for a, b in zip(base, head, strict=True)], chance)
    ratio, low, high = map(_exp, logs)
    floor = FLOOR_S if unit == "seconds" else 0.0
    if ratio > 1 + THRESHOLD and low > 1 and differences.estimate > floor:
        verdict = "slower"
    elif high <= 1 + THRESHOLD or differences.high < floor:
        faster = ratio < 1 / (1 + THRESHOLD) and high < 1 and differences.estimate < -floor
        verdict = "faster" if faster else "same"
    else:
        verdict = "cannot tell"
    return Judgement(verdict, ratio, low, high, _exp(logs.estimate - logs.low) - 1)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def judge_exact(base: float, head: float, unit: str) -> str:
    """The verdict on two numbers without noise."""
    threshold = 0.0 if unit in WHOLE else EXACT_THRESHOLD
    if head > base * (1 + threshold):
        return "slower"
    return "faster" if base > head * (1 + threshold) else "same"
