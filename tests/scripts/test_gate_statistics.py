"""What the gate says of noise: made up with a seed, so that the true slowdown is known."""

import math
import random
from collections import Counter
from itertools import accumulate, product
from statistics import median

import pytest

from scripts.gate.statistics import (
    FAMILY,
    THRESHOLD,
    Interval,
    _left_out,
    _student,
    _ways,
    best_pairs,
    interval,
    judge,
    judge_exact,
    pairs_needed,
    share,
)

RUNS, SERIES = 200, 8
PAIRS = 24


def quiet(lot, pair):
    return [lot.gauss(0, 0.01) for _ in range(2)]


def loaded(lot, pair):
    """Two busy loops beside: a time is up to thrice as long, each for itself."""
    return [math.log(1 + 2 * lot.random() ** 2) for _ in range(2)]


def bursts(lot, pair):
    """A neighbour that comes and goes for a while, and meets one side of a pair or both."""
    return [0.7 * (math.sin(0.9 * (2 * pair + half) + lot.random()) > 0.3) for half in range(2)]


def drift(lot, pair):
    """A machine that gets slower: the second of a pair meets more of it."""
    return [0.05 * (2 * pair + half) + lot.gauss(0, 0.01) for half in range(2)]


def outliers(lot, pair):
    return [lot.gauss(0, 0.01) + 0.8 * (lot.random() < 0.06) for _ in range(2)]


NOISE = {noise.__name__: noise for noise in (quiet, loaded, bursts, drift, outliers)}


def run(noise, slowdown, lot, pairs=PAIRS, chance=None, unit="seconds"):
    """One series: pairs in an order drawn by lot, head slower by `slowdown`."""
    base, head = [], []
    for pair in range(pairs):
        first, second = NOISE[noise](lot, pair)
        a, b = lot.sample((first, second), 2)
        base.append(0.2 * math.exp(a))
        head.append(0.2 * (1 + slowdown) * math.exp(b))
    return judge(base, head, unit, share(SERIES, 1) if chance is None else chance)


@pytest.mark.parametrize("noise", NOISE)
def test_nothing_changed_is_never_slower(noise):
    lot = random.Random(noise)
    verdicts = Counter(run(noise, 0.0, lot).verdict for _ in range(RUNS))
    assert verdicts.keys() <= {"same", "cannot tell"}
    if noise in ("quiet", "drift"):
        assert verdicts["same"] >= 0.98 * RUNS
    if noise == "outliers":  # of which further rounds have fewer in common
        assert verdicts["same"] >= 0.3 * RUNS
        assert Counter(run(noise, 0.0, lot, 3 * PAIRS).verdict for _ in range(50)) == {"same": 50}


@pytest.mark.parametrize("noise", NOISE)
def test_half_as_much_again_is_never_the_same(noise):
    lot = random.Random(noise)
    verdicts = Counter(run(noise, 0.5, lot).verdict for _ in range(RUNS))
    assert verdicts.keys() <= {"slower", "cannot tell"}
    if noise != "loaded":
        assert verdicts["slower"] >= 0.7 * RUNS


@pytest.mark.parametrize(
    ("slowdown", "verdict"),
    [(-0.25, "faster"), (0.0, "same"), (0.05, "same"), (0.25, "slower"), (0.5, "slower")],
)
def test_a_quiet_machine_tells_what_is_planted(slowdown, verdict):
    lot = random.Random(1)
    assert {run("quiet", slowdown, lot).verdict for _ in range(50)} == {verdict}


@pytest.mark.parametrize(
    ("slowdown", "verdicts"), [(0.0, {"same"}), (0.1, {"slower"}), (0.01, {"same"}), (-0.1, {"faster"})]
)
def test_of_a_function_by_itself_a_tenth_is_told_and_no_difference_is_too_small(slowdown, verdicts):
    lot = random.Random(4)
    assert {run("quiet", slowdown, lot, unit="µs").verdict for _ in range(50)} == verdicts
    told = {run("quiet", slowdown, lot).verdict for _ in range(50)}  # of a stage in seconds, at the threshold
    assert slowdown != 0.1 or told >= {"cannot tell"}


def test_at_the_threshold_it_is_told_or_not_and_the_interval_says_so():
    lot = random.Random(2)
    judgements = [run("quiet", THRESHOLD, lot) for _ in range(100)]
    assert {one.verdict for one in judgements} == {"slower", "cannot tell"}
    assert all(one.low < 1 + THRESHOLD < one.high for one in judgements)


@pytest.mark.parametrize("noise", NOISE)
def test_the_true_ratio_is_within_the_interval_as_often_as_promised(noise):
    lot = random.Random(3)
    outside = sum(not (one := run(noise, 0.2, lot, chance=0.05)).low <= 1.2 <= one.high for _ in range(300))
    assert outside <= 300 * 0.15  # of 0.1, and its own chance


def test_without_the_lot_it_would_be_slower():
    """The control: a drift that always meets HEAD second is a slowdown to anyone."""
    lot = random.Random(4)
    base, head = zip(*(NOISE["drift"](lot, pair) for pair in range(PAIRS)), strict=True)
    verdict = judge([math.exp(3 * a) for a in base], [math.exp(3 * b) for b in head], "seconds", share(1, 1))
    assert verdict.verdict == "slower"


def test_more_pairs_tell_what_fewer_could_not():
    few = [run("loaded", 0.5, random.Random(seed)).verdict for seed in range(20)]
    many = [run("loaded", 0.5, random.Random(seed), pairs=150).verdict for seed in range(20)]
    assert few.count("cannot tell") > 5 and many.count("slower") >= 19


@pytest.mark.parametrize("slowest", ["base", "head"])
def test_two_runs_that_once_were_the_same(slowest):
    """Half as much again was planted, and what ran beside hit most of one side's runs: once the medians said
    1.40, once 0.78, the minima both times 1.4. By the rank test of all samples both were the same."""
    for seed in range(50):
        lot = random.Random(seed)
        base, head = [], []
        for _ in range(12):
            hit = {side: lot.random() < (0.7 if side == slowest else 0.2) for side in ("base", "head")}
            base.append(0.2 * (1 + 0.02 * lot.random() + hit["base"] * lot.uniform(0.2, 0.8)))
            head.append(0.3 * (1 + 0.02 * lot.random() + hit["head"] * lot.uniform(0.2, 0.8)))
        assert judge(base, head, "seconds", share(1, 1)).verdict in ("slower", "cannot tell")


@pytest.mark.parametrize("series", [1, 40, 160])
def test_fewer_pairs_than_needed_tell_nothing_however_alike(series):
    needed = pairs_needed(series)
    for pairs, infinite in ((needed - 1, True), (needed, False)):
        one = judge([1.0] * pairs, [1.5] * pairs, "seconds", share(series, 1))
        assert math.isinf(one.high) is infinite
        assert one.verdict == ("cannot tell" if infinite else "slower")
    assert 2**-needed * series <= FAMILY / 2


def test_the_interval_is_that_of_the_signed_rank_test():
    """Against all ways to give signs to the ranks, counted one by one."""
    values = [0.3, -0.1, 0.45, 0.2, 0.07, -0.02, 0.6]
    n, chance = len(values), 0.05
    averages = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    sums = [sum(rank for rank, sign in enumerate(signs, 1) if sign) for signs in product((0, 1), repeat=n)]
    left_out = max(k for k in range(n) if sum(one <= k for one in sums) / 2**n <= chance)
    assert interval(values, chance) == (median(averages), averages[left_out], averages[-1 - left_out])
    assert interval([], chance)[1:] == Interval(0, -math.inf, math.inf)[1:]


@pytest.mark.parametrize("chance", [0.005, 1e-4, 1e-6])
def test_of_many_values_the_interval_is_hardly_wider_than_counted(chance):
    for n in (61, 90):
        below = list(accumulate(_ways(n)))
        counted = next(k for k, ways in enumerate(below) if ways > chance * 2**n) - 1
        assert 0.85 * counted <= _left_out(n, chance) <= counted + 1


def test_one_side_unlucky_in_every_process_is_not_slower():
    """Kept from a run in which nothing had changed for the language model: ms, five pairs a round."""
    base = (
        "10.2 11.3 10.3 10.1 10.6 11.0 10.8 11.0 10.3 11.1 10.8 9.8 10.7 10.5 10.7 11.3 10.1 10.7 11.3 22.1"
    )
    head = "38.1 26.3 10.7 16.9 10.5 17.4 18.8 23.2 29.4 23 19.8 56.7 30.6 22.4 21.3 54.5 65.7 51.1 43.6 61.3"
    sides = [[float(value) / 1e3 for value in one.split()] for one in (base, head)]
    assert judge(*sides, "seconds", 1e-3).verdict == "slower"  # what the pairs alone would say
    assert judge(*sides, "seconds", 1e-3, [5] * 4).verdict == "cannot tell"


@pytest.mark.parametrize(
    ("freedom", "value"), [(1, 318.31), (2, 22.327), (3, 10.215), (4, 7.173), (9, 4.297)]
)
def test_students_quantiles_are_those_of_the_tables(freedom, value):
    assert _student(freedom) == pytest.approx(value, rel=1e-3)


def test_a_difference_too_small_to_matter_is_none_and_noise_may_not_hide_in_it():
    lot = random.Random(5)
    small = [0.0005 * lot.uniform(1, 2) for _ in range(PAIRS)]
    assert judge(small, [2 * value for value in small], "seconds", share(1, 1)).verdict == "same"
    assert judge(small, [2 * value for value in small], "ms/token", share(1, 1)).verdict == "slower"
    large = [1000 * value for value in small]
    assert judge(large, [2 * value for value in large], "seconds", share(1, 1)).verdict == "slower"


@pytest.mark.parametrize(
    ("base", "head", "unit", "verdict"),
    [
        (1000.0, 1004.0, "FLOP", "same"),
        (1000.0, 1010.0, "FLOP", "slower"),
        (1010.0, 1000.0, "bytes", "faster"),
        (18282, 18290, "launches", "slower"),  # one more in each of eight steps
        (18290, 18282, "launches", "faster"),
        (0, 0, "syncs", "same"),
        (0, 1, "syncs", "slower"),  # the first time that the host waits for the card
    ],
)
def test_what_has_no_noise(base, head, unit, verdict):
    assert judge_exact(base, head, unit) == verdict


def test_pairs_of_a_round_are_as_many_as_its_noise_asks_for():
    lot = random.Random(3)

    def rounds(between, within=0.3, size=5):
        own = [lot.gauss(0, between) for _ in range(400)]
        return [one + lot.gauss(0, within) for one in own for _ in range(size)], [size] * 400

    # sqrt(start / pair * within / between), of variances
    assert best_pairs(*rounds(0.3), 8.0, 0.5) == pytest.approx(4.0, rel=0.15)
    assert best_pairs(*rounds(0.1), 8.0, 0.5) == pytest.approx(12.0, rel=0.25)
    assert best_pairs(*rounds(0.0), 8.0, 0.5) > 30
    assert best_pairs([0.1, -0.1, 0.2, -0.2], [2, 2], 8.0, 0.5) == math.inf
    assert best_pairs([0.1], [1], 8.0, 0.5) == math.inf
