"""Streams as a player at 1x hears them, and held against what is made at once."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.streaming import Arrivals, Chunk, largest_error, quantile, tolerance, unequal

RATE = 8  # samples a second, so that lengths are sums of halves


def chunks(*arrivals: tuple[float, int]) -> list[Chunk]:
    """Silent ones, each there at so many seconds and so many samples long."""
    return [Chunk(torch.zeros(1, 2, samples), t_s) for t_s, samples in arrivals]


PLAYED = {
    "no chunk": ([], None, (), ()),
    "one chunk": ([(3.0, 8)], 3.0, (), ()),
    "all in time": ([(3.0, 8), (3.25, 8), (3.5, 4)], 3.0, (0.25, 0.25), ()),
    "at the very moment": ([(3.0, 8), (4.0, 8), (5.0, 8)], 3.0, (1.0, 1.0), ()),
    "all late": ([(1.0, 4), (2.0, 4), (4.0, 4)], 1.0, (1.0, 2.0), (0.5, 1.5)),
    # One that is late leaves no time behind, and moves what follows: the last would be in time without it.
    "one late": ([(1.0, 8), (1.5, 8), (3.5, 8), (4.25, 8)], 1.0, (0.5, 2.0, 0.75), (0.5,)),
    "what is ahead is used up": ([(0.0, 16), (0.5, 8), (3.5, 8)], 0.0, (0.5, 3.0), (0.5,)),
    "of unequal length": ([(1.0, 2), (1.5, 16), (4.0, 1)], 1.0, (0.5, 2.5), (0.25, 0.5)),
}


@pytest.mark.parametrize("case", PLAYED)
def test_a_player_hears(case: str):
    came, first_s, gaps_s, silences_s = PLAYED[case]
    arrivals = Arrivals.of(chunks(*came), RATE)
    assert (arrivals.first_s, arrivals.gaps_s, arrivals.silences_s) == (first_s, gaps_s, silences_s)


ticks = st.integers(0, 64).map(lambda tick: tick / 16)  # whose sums are exact


@given(st.lists(st.tuples(ticks, ticks), min_size=1, max_size=12))
def test_all_silence_is_what_the_latest_chunk_is_behind_its_place(steps: list[tuple[float, float]]):
    """Σ s_i = max_i (t_i - t_0 - Σ_{j<i} d_j), which knows nothing of the ones between."""
    times_s = [sum(gap for gap, _ in steps[: place + 1]) for place in range(len(steps))]
    lengths_s = [length for _, length in steps]
    behind_s = [t_s - times_s[0] - sum(lengths_s[:place]) for place, t_s in enumerate(times_s)]
    silences_s = Arrivals(tuple(times_s), tuple(lengths_s)).silences_s
    assert sum(silences_s) == max(behind_s) and all(silence_s > 0 for silence_s in silences_s)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_quantiles_are_those_of_the_standard_library(values: list[float]):
    twentieths = statistics.quantiles(values, n=20, method="inclusive")
    for count, expected in enumerate(twentieths, start=1):
        assert quantile(values, count / 20) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert (quantile(values, 0), quantile(values, 1)) == (min(values), max(values))


def test_quantiles_of_few():
    assert (quantile([], 0.5), quantile([3.0], 0.95), quantile([4.0, 2.0], 0.5)) == (None, 3.0, 3.0)


def streamed(audio: torch.Tensor, *lengths: int) -> list[Chunk]:
    """`[B, channels, n]` in chunks of `lengths` samples."""
    return [Chunk(piece, float(place)) for place, piece in enumerate(audio.split(list(lengths), -1))]


AUDIO = 0.5 * torch.randn(2, 2, 40, generator=torch.Generator().manual_seed(0))
AUDIO[1, :, 30:] = 0  # the second item is over
OFFLINE = [AUDIO[0], AUDIO[1, :, :30]]


def test_chunks_are_the_whole_at_whatever_level():
    quiet = [OFFLINE[0] / 3, OFFLINE[1] / OFFLINE[1].abs().max()]
    for offline in (OFFLINE, quiet):
        for lengths in ((40,), (7, 7, 7, 7, 7, 5), (1, 39)):
            assert largest_error(streamed(AUDIO, *lengths), offline) < 1e-7
    assert largest_error(streamed(torch.zeros(1, 2, 4), 4), [torch.zeros(2, 4)]) == 0


def _changed(change) -> list[Chunk]:
    audio = AUDIO.clone()
    change(audio)
    return streamed(audio, 15, 15, 10)


FAULTS = {
    "a sample off by a ten-thousandth": _changed(lambda audio: audio[0, 1, 3:4].add_(1e-4)),
    "a chunk at another level": _changed(lambda audio: audio[:, :, 15:30].mul_(0.99)),
    "an item after its end": _changed(lambda audio: audio[1, :, 35:].add_(0.1)),
    "items exchanged": _changed(lambda audio: audio.copy_(audio.flip(0).clone())),
    "a sample too late": _changed(lambda audio: audio.copy_(audio.roll(1, -1).clone())),
    "chunks out of order": streamed(AUDIO, 15, 15, 10)[::-1],
    "a chunk missing": streamed(AUDIO, 15, 15, 10)[:2],
    "nothing": [],
    "not a number": _changed(lambda audio: audio[0, 0, 0:1].fill_(math.nan)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_the_whole_is_told(fault: str):
    error = largest_error(FAULTS[fault], OFFLINE)
    assert error > tolerance("float32")
    assert unequal(error, "float32").endswith(" of the peak from what is made at once, over 5e-05")


def test_rounding_explains_more_where_numbers_have_fewer_digits():
    assert not unequal(0.01, "bfloat16") and not unequal(1e-5, "float32") and unequal(1e-5, "float64")
    assert tolerance("float64") < tolerance("float32") < tolerance("bfloat16") == tolerance("float16") < 0.1
