"""Growth with length: the estimates are those of the formulas, and the intervals hold what they should."""

import math
import random

import numpy as np
import pytest

from harness.scaling import Estimate, Growth, exponent, fit, line

LENGTHS = (5, 30, 60, 180, 300)


def power(scale: float, degree: float) -> dict[float, float]:
    return {length: scale * length**degree for length in LENGTHS}


def straight(slope: float, intercept: float) -> dict[float, float]:
    return {length: intercept + slope * length for length in LENGTHS}


def noisy(points: dict[float, float], spread: float, lot: random.Random, count: int = 9):
    """Samples whose logarithms scatter by `spread`."""
    return {
        length: [value * math.exp(lot.gauss(0, spread)) for _ in range(count)]
        for length, value in points.items()
    }


def single(points: dict[float, float]) -> Growth:
    return fit({length: [value] for length, value in points.items()})


@pytest.mark.parametrize("degree", [0.0, 0.5, 1.0, 1.7, 2.0])
def test_a_power_has_its_exponent(degree):
    assert exponent(power(0.01, degree)) == pytest.approx(degree, abs=1e-12)


@pytest.mark.parametrize("slope, intercept", [(0.02, 0.0), (0.02, 1.5), (3e-5, 4e-3), (0.02, -0.05)])
def test_a_line_has_its_slope_and_intercept(slope, intercept):
    assert line(straight(slope, intercept)) == pytest.approx((slope, intercept), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("intercept", [0.1, 1.0, 10.0])
def test_an_intercept_lowers_the_exponent_as_the_docstring_says(intercept):
    """Between two lengths next to one another it is b·length / (a + b·length)."""
    slope, length, step = 0.1, 60.0, 1e-4
    near = {
        length - step: intercept + slope * (length - step),
        length + step: intercept + slope * (length + step),
    }
    local = slope * length / (intercept + slope * length)
    assert exponent(near) == pytest.approx(local, rel=1e-6) and local < 1


def test_the_line_is_of_the_least_relative_residuals():
    times = {5: 0.11, 30: 0.5, 60: 1.2, 180: 3.1, 300: 7.0}  # not on a line
    lengths, seconds = np.array([*times]), np.array([*times.values()])
    slope, intercept = np.polyfit(lengths, seconds, 1, w=1 / seconds)
    assert line(times) == pytest.approx((slope, intercept), rel=1e-9)
    plain = np.polyfit(lengths, seconds, 1)
    assert line(times).intercept != pytest.approx(plain[1], rel=0.1)  # what unweighted squares would say


def test_the_median_of_a_length_counts():
    outlier = {length: [value, value, 100 * value] for length, value in straight(0.02, 1.0).items()}
    growth = fit(outlier, draws=1)
    assert (growth.slope.value, growth.intercept.value) == pytest.approx((0.02, 1.0))


def test_intervals_hold_what_is_true_and_leave_out_what_is_not():
    held = missed = 0
    for seed in range(40):
        growth = fit(noisy(straight(0.02, 0.5), 0.03, random.Random(seed)), seed=seed, draws=100)
        held += not growth.slope.tells_from(0.02)
        missed += growth.slope.tells_from(0.02 * 1.2)
    assert held >= 34  # 95 % of 40 are 38
    assert missed >= 34


def test_the_same_seed_gives_the_same_interval_and_another_another():
    samples = noisy(straight(0.02, 0.5), 0.05, random.Random(1))
    assert fit(samples, seed=3, draws=100) == fit(samples, seed=3, draws=100)
    assert fit(samples, seed=3, draws=100).slope != fit(samples, seed=4, draws=100).slope


def test_of_one_sample_there_is_no_interval_and_nothing_is_told_apart():
    growth = single(straight(0.02, 0.5))
    assert all(estimate[1:] == (None, None) for estimate in growth)
    assert not growth.exponent.tells_from(1.0)
    assert Estimate(1.2, 1.1, 1.3).tells_from(1.0) and not Estimate(1.2, 0.9, 1.3).tells_from(1.0)


@pytest.mark.parametrize(
    "samples, reason",
    [
        ({5: [1.0, 1.0]}, "1 lengths have no slope"),
        ({}, "0 lengths have no slope"),
        ({5: [0.0], 30: [1.0]}, "is not above zero"),
        ({0: [1.0], 30: [1.0]}, "is not above zero"),
    ],
    ids=["one", "none", "no time", "no length"],
)
def test_what_has_no_growth_is_refused(samples, reason):
    with pytest.raises(ValueError, match=reason):
        fit(samples)
