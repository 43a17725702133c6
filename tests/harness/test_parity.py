"""Distances between results, against sums done by hand, and that nothing bad looks close."""

import math

import pytest
import torch

from harness.parity import Parity, compare


def test_the_distance_is_the_one_done_by_hand():
    found = compare(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
    assert found.relative_rms == pytest.approx(0.5 / 5, rel=1e-12)
    assert found.max_abs == 0.5
    assert found.snr_db == pytest.approx(20.0, rel=1e-12)


@pytest.mark.parametrize("db", [-6.0, 20.0, 90.0])
def test_noise_of_a_known_level_is_found(db):
    generator = torch.Generator().manual_seed(0)
    signal, noise = torch.randn(2, 48_000, dtype=torch.float64, generator=generator)
    noise *= signal.norm() / noise.norm() * 10 ** (-db / 20)
    assert compare(signal, signal + noise).snr_db == pytest.approx(db, abs=1e-6)
    assert compare(7 * signal, 7 * (signal + noise)).snr_db == pytest.approx(db, abs=1e-6)
    assert compare(signal, signal + 1.2 * noise).snr_db < db - 1


def test_sums_are_wide():
    """In bf16 a square of 300 of 60,000 equal numbers would stop growing at 256."""
    ones = torch.ones(60_000, dtype=torch.bfloat16)
    assert compare(ones, 2 * ones) == Parity(1.0, 1.0, 0.0)
    big = torch.full((4,), 3e38)  # whose square no fp32 holds
    assert compare(big, big / 2).relative_rms == pytest.approx(0.5)


def test_equal_results_have_no_distance():
    zeros = torch.zeros(3)
    assert compare(zeros, zeros) == compare(torch.arange(4), torch.arange(4.0)) == Parity(0.0, 0.0, math.inf)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_far(bad):
    good, broken = torch.ones(3), torch.tensor([1.0, bad, 1.0])
    nowhere = Parity(math.inf, math.inf, -math.inf)
    assert compare(good, broken) == compare(broken, good) == compare(broken, broken) == nowhere


def test_nothing_is_relative_to_silence():
    assert compare(torch.zeros(2), torch.tensor([0.0, 0.25])) == Parity(math.inf, 0.25, -math.inf)


@pytest.mark.parametrize("other", [torch.ones(1, 3), torch.ones(4), torch.tensor(1.0)])
def test_other_shapes_are_not_broadcast(other):
    with pytest.raises(ValueError, match=r"cannot compare \(3,\) with"):
        compare(torch.ones(3), other)


def test_nothing_cannot_be_compared():
    with pytest.raises(ValueError, match="cannot compare"):
        compare(torch.ones(0), torch.ones(0))
