"""Reference audio: always thirty seconds, always from the same places."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acestep.audio.reference import CLIP, WINDOW, windows


def ramp(samples: int) -> torch.Tensor:
    """`[2, samples]` in which every sample says where it stands: 1, 2, 3, ... and the same negated."""
    place = torch.arange(1, samples + 1, dtype=torch.float64)
    return torch.stack([place, -place])


def starts(samples: int) -> list[int]:
    clip = windows(ramp(samples))
    assert clip is not None and clip.shape == (2, CLIP) and torch.equal(clip[0], -clip[1])
    return [int(clip[0, i * WINDOW]) - 1 for i in range(3)]


@settings(max_examples=settings.default.max_examples // 10, deadline=None)
@given(st.integers(CLIP, 3 * CLIP))
@example(CLIP)
def test_windows_lie_one_in_each_third(samples: int):
    clip = windows(ramp(samples))
    assert clip is not None
    for third, piece in enumerate(clip[0].split(WINDOW)):
        assert (piece.diff() == 1).all()
        assert third * samples // 3 <= piece[0] - 1 and piece[-1] <= -(-(third + 1) * samples // 3)


@settings(max_examples=settings.default.max_examples // 10, deadline=None)
@given(st.integers(1, CLIP - 1))
@example(1)
@example(CLIP - 1)
def test_a_short_clip_is_played_again(samples: int):
    clip = windows(ramp(samples))
    assert clip is not None and clip.shape == (2, CLIP)
    for piece in clip[0].split(WINDOW):
        steps = piece.diff()
        assert ((steps == 1) | (steps == 1 - samples)).all()


def test_thirty_seconds_are_taken_whole():
    assert starts(CLIP) == [0, WINDOW, 2 * WINDOW]
    assert starts(CLIP + 30) == [0, WINDOW + 10, 2 * WINDOW + 30]


def test_silence_is_no_reference():
    wave = torch.full((2, 1000), 9e-7)
    assert windows(wave) is None
    wave[1, 500] = -2e-6
    assert windows(wave) is not None
