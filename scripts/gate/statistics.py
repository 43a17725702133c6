"""Is it slower? An interval of the ratio of two times, and what may be said of it.

Both commits run one after the other, in an order drawn by lot, many times over: pairs. The ratio of a pair
has in it what the machine did meanwhile. Had the two commits the same speed, a pair would be as likely to
come out the other way round whatever that was, bursts, drifts and neighbours included, for the lot decided
which of them met it (Fisher 1935, The Design of Experiments, 21). So the logarithms of the ratios scatter
symmetrically around that of the true one, and Wilcoxon's signed-rank test, turned into an interval by the
averages of all two pairs, holds without an assumption about the noise (Hodges and Lehmann 1963; Tukey's
construction, in Hollander, Wolfe and Chicken 2014, 3.3). Few outliers do not move it. What stays for the
life of a process, where its threads lie for one, no lot decides: the interval also holds Student's of the
medians of the rounds, each of which has processes of its own.

Many series are judged at once, more than once: a series gets its share of FAMILY (Bonferroni), and each look
at it a part of that, half, a sixth, a twelfth, which add up to one. A few pairs give no interval at all,
however alike they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from statistics import NormalDist, fmean, median, stdev, variance
from typing import NamedTuple

FAMILY = 0.001  # chance of one false alarm or more, of a whole run
ROUNDS_CHANCE = 0.001  # of a median of rounds that is beyond its interval on one side
THRESHOLD = 0.10  # a smaller slowdown is none
FUNCTION = "µs"  # the unit of functions by themselves, whose time is the process's
FUNCTION_THRESHOLD = 0.05
FLOOR_S = 0.002  # a smaller difference is none, whatever the ratio
EXACT_THRESHOLD = 0.005  # of what has no noise
COUNTED_TO = 60  # values
WHOLE = ("launches", "kernels", "syncs", "reads", "copies")  # whole numbers: one more is more


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


def of_rounds(values: Sequence[float], sizes: Sequence[int]) -> Interval:
    """Student's interval of the median of a round; `sizes`: how many of `values` each has."""
    ends = list(accumulate(sizes))
    medians = [median(values[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
    if len(medians) < 2:
        return Interval(medians[0], -math.inf, math.inf)
    reach = _student(len(medians) - 1) * stdev(medians) / math.sqrt(len(medians))
    return Interval(fmean(medians), fmean(medians) - reach, fmean(medians) + reach)


def best_pairs(values: Sequence[float], sizes: Sequence[int], start_s: float, pair_s: float) -> float:
    """How many pairs a round should have, for the narrowest interval in a given time.

    A round costs start_s and pair_s for each of its n pairs, and the mean of all has a variance of
    (between + within / n) / rounds: least at n = sqrt(start_s / pair_s * within / between) (Cochran 1977,
    Sampling Techniques, 10.6). Infinite where rounds differ by no more than their pairs explain.
    """
    ends = list(accumulate(sizes))
    rounds = [values[end - size : end] for end, size in zip(ends, sizes, strict=True) if size > 1]
    if len(rounds) < 2:
        return math.inf
    within = fmean(map(variance, rounds))
    between = variance(map(fmean, rounds)) - within * fmean(1 / len(round) for round in rounds)
    return math.sqrt(start_s / pair_s * within / between) if between > 0 else math.inf


@cache
def _student(freedom: int) -> float:
    """What Student's t is above with a probability of ROUNDS_CHANCE (Abramowitz and Stegun 26.7)."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _above(middle, freedom) > ROUNDS_CHANCE else (low, middle)
    return high


def _above(value: float, freedom: int) -> float:
    """The probability that Student's t is above a positive value."""
    angle = math.atan(value / math.sqrt(freedom))
    odd, term, total = freedom % 2, 1.0, 0.0
    for power in range(odd, freedom - 1, 2):
        term = term if power == odd else term * (power - 1) / power
        total += term * math.cos(angle) ** power
    within = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 - within) / 2


def judge(
    base: Sequence[float], head: Sequence[float], unit: str, chance: float, sizes: Sequence[int] = ()
) -> Judgement:
    """The verdict on pairs of times, `base[i]` and `head[i]` beside one another; `sizes`: pairs of each
    round, where rounds have processes of their own.

    `slower`: surely so, and by more than the threshold of the unit as far as can be said. `same`: surely by
    no more. What is neither is `cannot tell`. `faster` is `slower` with the sides exchanged.
    """
    ratios = [math.log(b / a) for a, b in zip(base, head, strict=True)]
    logs = interval(ratios, chance)
    if sizes:
        rounds = of_rounds(ratios, sizes)
        logs = Interval(logs.estimate, min(logs.low, rounds.low), max(logs.high, rounds.high))
    differences = interval([b - a for a, b in zip(base, head, strict=True)], chance)
    ratio, low, high = map(_exp, logs)
    floor = FLOOR_S if unit == "seconds" else 0.0
    most = 1 + (FUNCTION_THRESHOLD if unit == FUNCTION else THRESHOLD)
    if ratio > most and low > 1 and differences.estimate > floor:
        verdict = "slower"
    elif high <= most or differences.high < floor:
        faster = ratio < 1 / most and high < 1 and differences.estimate < -floor
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
