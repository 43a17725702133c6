"""From a decoded waveform to the one that is kept: values from the formulas, in double precision."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.audio import finishing
from acestep.request import GenerationParams

RATE = 48_000
N = 1_000
NOISE = torch.rand(3, 2, N, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
WAVES, RECORDING = NOISE[:2], NOISE[2]


def spliced(ramp: Callable[[int], np.ndarray], a: int, b: int, crossfade: int, samples: int) -> np.ndarray:
    """`WAVES` in `[a, b)` and `samples` of `RECORDING` elsewhere. `ramp`: n shares that rise from 0 to 1."""
    share = np.zeros(samples)
    share[a:b] = 1
    before, after = min(crossfade, a), min(crossfade, samples - b)
    share[a - before : a] = ramp(before)
    share[b : b + after] = ramp(after)[::-1]
    waves, recording = WAVES.double().numpy(), RECORDING.double().numpy()
    mixed = share * waves[..., :samples] + (1 - share) * recording[:, :samples]
    return np.concatenate((mixed, waves[..., samples:]), axis=-1)


def between(n: int) -> np.ndarray:
    return np.arange(1, n + 1) / (n + 1)


def from_end_to_end(n: int) -> np.ndarray:
    return np.arange(n) / max(n - 1, 1)


PLACES = [
    (400, 600, 0, N),  # a hard cut
    (400, 600, 50, N),
    (30, 960, 50, N),  # shorter where there is less room, and still from 0 to 1
    (0, 600, 50, N),
    (400, 800, 50, 800),  # what is decoded goes on behind the recording
    (400, 600, 1, 900),
]


@pytest.mark.parametrize(("a", "b", "crossfade", "samples"), PLACES)
def test_outside_the_region_the_recording_is_put_back(a: int, b: int, crossfade: int, samples: int):
    mixed = finishing.spliced(WAVES, RECORDING[:, :samples], (a, b), crossfade).numpy()
    np.testing.assert_allclose(mixed, spliced(between, a, b, crossfade, samples), rtol=0, atol=2e-7)
    kept = np.r_[0 : max(a - crossfade, 0), min(b + crossfade, samples) : samples]
    assert np.array_equal(mixed[..., kept], np.broadcast_to(RECORDING.numpy(), mixed.shape)[..., kept])
    assert np.array_equal(mixed[..., a:b], WAVES.numpy()[..., a:b])


def test_a_ramp_that_includes_its_ends_is_another():
    mixed = finishing.spliced(WAVES, RECORDING, (400, 600), 50).numpy()
    assert np.abs(mixed - spliced(from_end_to_end, 400, 600, 50, N)).max() > 1e-3


def test_a_region_is_held_to_what_is_there():
    long = torch.nn.functional.pad(RECORDING, (0, 500))
    assert torch.equal(
        finishing.spliced(WAVES, long, (400, 1_400), 20), finishing.spliced(WAVES, RECORDING, (400, N), 20)
    )


@pytest.mark.parametrize("level_db", [-1.0, -23.5, 0.0])
@pytest.mark.parametrize("loudness", [1.0, 1e-4, 2e-6])
def test_every_item_has_the_same_peak(level_db: float, loudness: float):
    wave = WAVES[0] * loudness
    params = GenerationParams(enable_normalization=True, normalization_db=level_db)
    finished, peak, rms, silent = finishing.finish(wave, params, RATE)
    before = wave.double().numpy()
    after = before * (10 ** (level_db / 20) / np.abs(before).max())
    np.testing.assert_allclose(finished.numpy(), after, rtol=1e-6)
    assert peak == finished.abs().max().item() <= 10 ** (level_db / 20) + 1e-8
    assert rms == pytest.approx(np.sqrt((after**2).mean()), rel=1e-6)
    assert silent == (loudness == 2e-6)  # what nobody hears is silence, however loud it is made


def test_what_has_no_peak_is_left_alone_and_silent():
    wave = WAVES[0] * 1e-6
    finished, peak, _, silent = finishing.finish(wave, GenerationParams(enable_normalization=True), RATE)
    assert finished is wave and peak == wave.abs().max().item() < 1e-6 and silent


def test_a_fade_is_a_line():
    params = GenerationParams(fade_in_duration=100 / RATE, fade_out_duration=300 / RATE)
    finished, peak, *_ = finishing.finish(WAVES[0], params, RATE)
    expected = WAVES[0].double().numpy()
    expected[:, :100] *= np.arange(100) / 99
    expected[:, -300:] *= np.arange(300)[::-1] / 299
    np.testing.assert_allclose(finished.numpy(), expected, rtol=0, atol=1e-7)
    assert peak == finished.abs().max().item() and not torch.equal(WAVES[0], finished)


def test_fades_end_with_the_audio_and_meet_in_it():
    params = GenerationParams(fade_in_duration=9.0, fade_out_duration=600 / RATE)
    finished, *_ = finishing.finish(WAVES[0], params, RATE)
    expected = WAVES[0].double().numpy() * (np.arange(N) / (N - 1))
    expected[:, -600:] *= np.arange(600)[::-1] / 599
    np.testing.assert_allclose(finished.numpy(), expected, rtol=0, atol=1e-7)


def test_a_fade_begins_at_zero_whatever_the_level():
    """The order: faded first, the peak that is normalised would be another one."""
    params = GenerationParams(enable_normalization=True, fade_in_duration=N / RATE)
    finished, peak, *_ = finishing.finish(WAVES[0], params, RATE)
    level, ramp, wave = 10 ** (-1 / 20), np.arange(N) / (N - 1), WAVES[0].double().numpy()
    np.testing.assert_allclose(
        finished.numpy(), wave * (level / np.abs(wave).max()) * ramp, rtol=0, atol=2e-7
    )
    assert peak < level - 1e-3 and not finished[:, 0].any()
    faded_first = wave * ramp
    assert np.abs(faded_first * level / np.abs(faded_first).max() - finished.numpy()).max() > 1e-3


def test_with_all_of_it_off_nothing_is_touched():
    wave = WAVES[0]
    finished, peak, rms, silent = finishing.finish(wave, GenerationParams(), RATE)
    assert finished is wave and not silent
    assert (peak, rms) == (wave.abs().max().item(), wave.square().mean().sqrt().item())


@settings(deadline=None)
@given(
    places=st.lists(st.integers(0, N), min_size=2, max_size=2, unique=True).map(sorted),
    crossfade=st.integers(0, 2 * N),
    recorded=st.integers(1, N),
    fades=st.tuples(st.integers(0, 2 * N), st.integers(0, 2 * N)),
    chunk=st.integers(7, N),
)
def test_piece_by_piece_it_is_the_same(places, crossfade: int, recorded: int, fades, chunk: int):
    start, stop = places
    place = RECORDING[:, :recorded], (start, stop), crossfade
    whole = finishing.faded(finishing.spliced(WAVES, *place), *fades)
    pieces = [
        finishing.faded(finishing.spliced(WAVES[..., at : at + chunk], *place, at, N), *fades, at, N)
        for at in range(0, N, chunk)
    ]
    assert torch.equal(torch.cat(pieces, dim=-1), whole)
