"""Another rate: what lies below half of it stays, what lies above goes, and the length is the same time."""

import numpy as np
import pytest

from acestep.audio.writing import resampled

RATES = [(44_100, 48_000), (48_000, 44_100), (16_000, 48_000), (48_000, 16_000), (12_000, 24_000)]
EDGE_S = 0.05  # where a sine begins and ends it is none


def tone(rate: int, hertz: float, seconds: float = 0.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz / rate * np.arange(round(seconds * rate)))


def decibels(a: np.ndarray, b: np.ndarray, rate: int) -> float:
    """Of the power of `a` beside that of `b`, without the edges."""
    edge = int(EDGE_S * rate)
    return 10 * np.log10((a[edge:-edge] ** 2).mean() / (b[edge:-edge] ** 2).mean())


@pytest.mark.parametrize(("rate", "new_rate"), RATES)
@pytest.mark.parametrize(("share", "limit"), [(0.01, 120), (0.3, 120), (0.85, 65)])
def test_a_sine_below_half_the_lower_rate_stays(rate: int, new_rate: int, share: float, limit: float):
    """Near the end of the band soxr interpolates its filter where the rates have a ratio of large numbers."""
    hertz = share * min(rate, new_rate) / 2
    output = resampled(tone(rate, hertz).astype(np.float32), rate, new_rate)
    expected = tone(new_rate, hertz)
    assert output.dtype == np.float32
    assert decibels(expected, output.astype(np.float64) - expected, new_rate) > limit
    late = np.roll(expected, 1)  # by a sample: the measure would show it
    assert decibels(expected, output.astype(np.float64) - late, new_rate) < 60


@pytest.mark.parametrize(("rate", "new_rate"), [pair for pair in RATES if pair[1] < pair[0]])
@pytest.mark.parametrize("place", [0.05, 0.5, 0.95])
def test_a_sine_above_half_the_new_rate_is_not_heard(rate: int, new_rate: int, place: float):
    """Between half the new rate, where it would come back mirrored, and half the old."""
    lowest, highest = 1.02 * new_rate / 2, rate / 2
    sine = tone(rate, lowest + place * (highest - lowest)).astype(np.float32)
    output = resampled(sine, rate, new_rate)
    kept = sine[:: max(1, round(rate / new_rate))]  # without a filter
    assert decibels(output, tone(new_rate, 100.0), new_rate) < -100 < -10 < decibels(kept, sine, rate // 4)


@pytest.mark.parametrize(("rate", "new_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 7, 441, 16_001, 44_100])
def test_the_length_is_the_same_time(rate: int, new_rate: int, samples: int):
    for shape in ((samples,), (samples, 1), (samples, 2)):
        output = resampled(np.zeros(shape, np.float32), rate, new_rate)
        assert output.shape[1:] == shape[1:] and abs(len(output) - samples * new_rate / rate) <= 0.5


def test_channels_do_not_meet():
    left, right = (tone(44_100, hertz).astype(np.float32) for hertz in (440.0, 1000.0))
    both = resampled(np.stack([left, right], axis=1), 44_100, 48_000)
    for channel, alone in zip(both.T, (left, right), strict=True):
        assert np.array_equal(channel, resampled(alone, 44_100, 48_000))


def test_the_same_rate_is_the_same_samples():
    wave = tone(48_000, 440.0)
    assert resampled(wave, 48_000, 48_000) is wave
