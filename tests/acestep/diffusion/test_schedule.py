"""Schedules against the published tables, and what holds for every one of them."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acestep.diffusion.schedule import schedule, start_at

TABLES = {
    1: [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125],
    2: [1, 0.9333333333, 0.8571428571, 0.7692307692, 0.6666666667, 0.5454545455, 0.4, 0.2222222222],
    3: [1, 0.9545454545, 0.9, 0.8333333333, 0.75, 0.6428571429, 0.5, 0.3],
}
KNOWN = sorted({t for table in TABLES.values() for t in table}, reverse=True)
BF16_SHIFT_3 = [1, 0.953125, 0.8984375, 0.83203125, 0.75, 0.64453125, 0.5, 0.30078125]

STEPS, SHIFTS, TURBO = st.integers(1, 200), st.floats(0.1, 20), st.booleans()
TIMES = st.lists(st.floats(1e-6, 1), min_size=1, max_size=40, unique=True).map(lambda t: sorted(t)[::-1])


def falls(times: list[float]) -> bool:
    return times[-1] > 0 and times[0] <= 1 and all(later < earlier for earlier, later in pairwise(times))


@pytest.mark.parametrize("shift", TABLES)
@pytest.mark.parametrize("turbo", [True, False])
def test_eight_steps_are_the_published_table(shift: int, turbo: bool):
    times = schedule(8, shift, turbo=turbo)
    assert times == pytest.approx(TABLES[shift], abs=5e-11)
    # A guidance interval written as the table is holds its ends.
    assert {t for t in TABLES[shift] if t == round(t, 3)} <= set(times)


@pytest.mark.parametrize("shift", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [5, 10, 20, 30, 50, 60, 100])
def test_times_are_the_floats_nearest_to_the_formula(steps: int, shift: int):
    """So one that a guidance interval names as a decimal fraction lies in it."""
    fractions = [Fraction(steps - i, steps) for i in range(steps)]
    exact = [shift * u / (shift * u + 1 - u) for u in fractions]
    assert schedule(steps, float(shift), turbo=False) == [float(t) for t in exact]


@pytest.mark.parametrize("steps", [10, 30, 50])
def test_of_two_times_as_near_a_cover_begins_at_the_noisier(steps: int):
    for twentieths in range(1, 20, 2):  # (20 - k)/20 lies in the middle between two of so many times
        middle = Fraction(20 - twentieths, 20)
        first = next(
            t for i in range(steps) if (t := Fraction(steps - i, steps)) - middle <= Fraction(1, 2 * steps)
        )
        assert start_at(schedule(steps, 1.0, turbo=False), twentieths / 20)[0] == float(first)


@pytest.mark.parametrize(("asked", "snapped"), [(0.2, 1), (1.4, 1), (1.6, 2), (2.7, 3), (9, 3)])
def test_eight_turbo_steps_snap_the_shift(asked: float, snapped: int):
    assert schedule(8, asked, turbo=True) == schedule(8, snapped, turbo=True)
    assert schedule(8, asked, turbo=False) != schedule(8, snapped, turbo=False)


def test_other_counts_take_the_formula_unsnapped():
    assert schedule(16, 3.0, turbo=True)[::2] == pytest.approx(TABLES[3])
    assert schedule(16, 2.7, turbo=True) != schedule(16, 3.0, turbo=True)


def test_the_model_sees_the_schedule_in_its_own_precision():
    assert torch.tensor(schedule(8, 3.0, turbo=True), dtype=torch.bfloat16).tolist() == BF16_SHIFT_3


@pytest.mark.parametrize(("steps", "apart"), [(50, True), (96, True), (97, False)])
def test_bf16_tells_times_apart_as_far_as_is_said(steps: int, apart: bool):
    held = torch.tensor(schedule(steps, 3.0, turbo=False), dtype=torch.bfloat16)
    assert (len(held.unique()) == steps) is apart


@given(STEPS, SHIFTS, TURBO)
def test_times_fall_from_one(steps: int, shift: float, turbo: bool):
    times = schedule(steps, shift, turbo=turbo)
    assert len(times) == steps and times[0] == 1 and falls(times)


@given(STEPS, SHIFTS, SHIFTS, TURBO)
def test_a_larger_shift_stays_nearer_the_noise(steps: int, one: float, other: float, turbo: bool):
    lower, higher = (schedule(steps, shift, turbo=turbo) for shift in sorted((one, other)))
    assert all(low <= high + 1e-12 for low, high in zip(lower, higher, strict=True))


@given(TIMES, STEPS, SHIFTS)
def test_base_takes_any_times(times: list[float], steps: int, shift: float):
    assert schedule(steps, shift, turbo=False, timesteps=[*times, 0.0]) == times


@given(TIMES, STEPS, SHIFTS)
def test_turbo_snaps_times_to_those_it_knows(times: list[float], steps: int, shift: float):
    snapped = schedule(steps, shift, turbo=True, timesteps=[*times, 0.0])
    nearest = [min(KNOWN, key=lambda known: abs(known - time)) for time in times[:20]]
    assert falls(snapped)
    assert snapped == pytest.approx(sorted(set(nearest), reverse=True), abs=5e-11)


def test_turbo_knows_twenty_times_and_uses_no_more():
    assert schedule(8, 1.0, turbo=True, timesteps=KNOWN) == pytest.approx(KNOWN, abs=5e-11)
    assert len(KNOWN) == 20
    crowd = [1 - i / 1000 for i in range(20)]
    assert schedule(8, 1.0, turbo=True, timesteps=[*crowd, 0.5]) == pytest.approx([1.0])


@given(STEPS, SHIFTS, st.floats(0, 1))
def test_a_start_is_the_nearest_time_to_it(steps: int, shift: float, strength: float):
    times = schedule(steps, shift, turbo=False)
    rest = start_at(times, strength)
    assert rest == times[-len(rest) :]
    assert abs(rest[0] - (1 - strength)) == min(abs(t - (1 - strength)) for t in times)


def test_no_strength_keeps_the_schedule_and_full_strength_its_last_step():
    times = schedule(8, 3.0, turbo=True)
    assert start_at(times, 0.0) == times
    assert start_at(times, 0.27) == times[4:]
    assert start_at(times, 1.0) == times[-1:]
