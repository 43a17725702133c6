"""Each step around the networks by its formula, written again in plain loops, and a control that is off."""

import math

import numpy as np
import pytest

from subjects.rvc import conversion as steps
from subjects.rvc.config import HOP, SAMPLE_RATE
from subjects.rvc.conversion import Cutting, Highpass

LOT = np.random.RandomState(0)
SHORT = Cutting(pad=1, query=1, center=3, most=4)


def sections(highpass: Highpass, samples: np.ndarray) -> np.ndarray:
    """The filter one pole after another, in 80 bits, as if the first sample had been there for ever."""
    out = samples.astype(np.clongdouble)
    for pole in highpass.poles:
        held, before = np.clongdouble(0), out[0]
        for index, value in enumerate(out.copy()):
            held = np.clongdouble(pole) * held + value - before
            before = value
            out[index] = held
    return out.real * np.longdouble(highpass.gain)


def test_the_high_pass_has_the_published_coefficient_and_the_magnitude_of_its_formula():
    highpass = steps.butterworth()
    assert highpass.gain == pytest.approx(0.9699606451838447, rel=1e-14)
    size = 4_096
    got = np.abs(highpass.response(size))[1:-1]
    bins = np.arange(1, size // 2) / size
    warped = math.tan(math.pi * 48 / SAMPLE_RATE) / np.tan(np.pi * bins)
    np.testing.assert_allclose(got, 1 / np.sqrt(1 + warped**10), rtol=1e-9)
    assert all(abs(pole) < 1 for pole in highpass.poles)


def test_both_ways_through_the_high_pass_are_the_recursion_both_ways():
    samples = LOT.standard_normal(1_500) + 0.5
    wide = np.pad(samples, 18, mode="reflect", reflect_type="odd").astype(np.longdouble)
    highpass = steps.butterworth()
    expected = sections(highpass, sections(highpass, wide)[::-1])[::-1][18:-18]
    got = steps.highpassed(samples)
    assert np.abs(got - expected).max() < 1e-13
    other = steps.highpassed(samples, steps.butterworth(cutoff_hz=49.0))
    assert np.abs(other - expected).max() > 1e-4


@pytest.mark.parametrize("size", [1, 2, 17, 400])
def test_a_constant_does_not_pass_however_short(size):
    assert np.abs(steps.highpassed(np.full(size, 0.5))).max() < 1e-12


def test_only_what_is_too_loud_is_levelled():
    quiet, loud = np.array([0.5, -0.95]), np.array([0.5, -1.9])
    assert steps.levelled(quiet) is quiet
    np.testing.assert_allclose(steps.levelled(loud), [0.25, -0.95])


def test_cuts_are_at_the_quietest_sums_of_magnitudes():
    samples = LOT.uniform(0.5, 1, 10 * SAMPLE_RATE) * LOT.choice([-1, 1], 10 * SAMPLE_RATE)
    quiet = [2 * SAMPLE_RATE + 4_321, 6 * SAMPLE_RATE + 160, 9 * SAMPLE_RATE + 11_000]
    for point in quiet:
        samples[point - 80 : point + 80] = 0
    points = steps.quiet_points(samples, SHORT)
    assert points == [point // HOP * HOP for point in quiet]
    # Signed samples sum up to little anywhere: another point would be taken.
    padded = np.pad(samples, HOP // 2, mode="reflect")
    window = padded[2 * SAMPLE_RATE : 4 * SAMPLE_RATE + HOP]
    sums = np.abs(np.convolve(window, np.ones(HOP), "valid"))
    assert (sums < 1).sum() > 1_000
    assert steps.quiet_points(samples[: 4 * SAMPLE_RATE - HOP], SHORT) == []


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.345, 41.0])
@pytest.mark.parametrize("rate", [32_000, 40_000, 48_000])
def test_lengths_of_one_chunk_are_the_published_ones(seconds, rate):
    length = round(seconds * SAMPLE_RATE)
    short = steps.output_samples(length, [], rate, exact=False)
    exact = steps.output_samples(length, [], rate, exact=True)
    assert exact == round(seconds * rate)
    assert 0 < exact - short <= 0.02 * rate
    if seconds == 1.0 and rate == 48_000:
        assert short == 47_040


def test_chunks_cover_the_recording_and_those_with_odd_frames_end_early():
    length, points = 10 * SAMPLE_RATE, [320 * HOP, 655 * HOP]  # 320 and 335 frames
    pieces = [*steps.chunks(length, points, False)]
    padded = length + 2 * SAMPLE_RATE
    assert [piece.start for piece in pieces] == [0, *points] and pieces[-1].end == padded
    assert pieces[0].end == points[0] + 2 * SAMPLE_RATE + HOP
    made = [steps.frames_of(piece) - 200 for piece in pieces]
    assert made[:2] == [320, 334]
    assert 1 <= 1_000 - 655 - made[2] <= 2
    exact = [*steps.chunks(length, points, True)]
    assert sum(steps.frames_of(piece) - 200 for piece in exact) == 1_000
    room = len(steps.padded(np.zeros(length), True))
    for piece in exact:
        assert piece.end <= room
        assert 2 * steps.hubert_frames(piece.end - piece.start) >= steps.frames_of(piece)


def test_pitch_is_a_line_over_frames_without_a_voice():
    f0 = np.array([0, 0, 100, 0, 0, 130, 0], np.float32)
    np.testing.assert_allclose(steps.interpolated(f0), [100, 100, 100, 110, 120, 130, 130])
    silent = np.zeros(3, np.float32)
    assert steps.interpolated(silent) is silent


def test_breath_is_protected_from_the_index():
    mixed, raw, f0 = np.ones((3, 2)), np.zeros((3, 2)), np.array([0.0, 0.5, 200.0])
    np.testing.assert_allclose(steps.protected(mixed, raw, f0, 0.33)[:, 0], [0.33, 0.33, 1])
    assert steps.protected(mixed, raw, f0, 0.5) is mixed


def test_loudness_is_the_rms_of_a_second_every_half():
    samples = LOT.standard_normal(3_700)
    got = steps.loudness(samples, 1_000)
    padded = np.pad(samples, 500)
    expected = [np.sqrt(np.mean(padded[n * 500 : n * 500 + 1_000] ** 2)) for n in range(8)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_values_are_stretched_between_the_middles_of_theirs_as_torch_does():
    import torch

    values = LOT.standard_normal(7)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None], size=100, mode="linear")
    np.testing.assert_allclose(steps.stretched(values, 100), expected[0, 0].numpy(), atol=1e-12)
    ends = np.interp(np.linspace(0, 6, 100), np.arange(7), values)
    assert np.abs(ends - expected[0, 0].numpy()).max() > 0.01  # what others do


def test_the_result_is_as_loud_as_the_input_by_its_share():
    source, output = 0.2 * LOT.standard_normal(32_000), 0.05 * LOT.standard_normal(96_000)
    assert steps.mixed_loudness(source, output, 48_000, 1.0) is output
    all_of_it = steps.mixed_loudness(source, output, 48_000, 0.0)
    assert np.sqrt(np.mean(all_of_it[30_000:60_000] ** 2)) == pytest.approx(0.2, rel=0.03)
    half = steps.mixed_loudness(source, output, 48_000, 0.5)
    assert np.sqrt(np.mean(half[30_000:60_000] ** 2)) == pytest.approx((0.2 * 0.05) ** 0.5, rel=0.03)


def test_sixteen_bits_are_cut_towards_zero_and_less_loud_only_where_they_would_not_fit():
    np.testing.assert_array_equal(
        steps.sixteen_bits(np.array([0.5, -0.5, 1.9 / 32_768])), [16_384, -16_384, 1]
    )
    np.testing.assert_array_equal(steps.sixteen_bits(np.array([1.98, -0.99])), [32_440, -16_220])
