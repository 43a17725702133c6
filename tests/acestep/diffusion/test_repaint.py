"""Painting a region: which steps put the rest back, and how the painting fades into it."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acestep.diffusion.repaint import Repaint

FRAMES = 40


def latents(seed: int, dtype: torch.dtype = torch.float64, items: int = 1) -> Tensor:
    return torch.randn(items, FRAMES, 3, generator=torch.Generator().manual_seed(seed)).to(dtype)


CLEAN, PAINTED = latents(1), latents(2, items=2)


def shares(first: int, end: int, crossfade_frames: int) -> list[Fraction]:
    """The painting's share of each frame: linspace(0, 1, n + 2) without its ends on either side, n at most
    the crossfade and at most what there is."""
    rise, fall = min(crossfade_frames, first), min(crossfade_frames, FRAMES - end)
    rising = [Fraction(i, rise + 1) for i in range(1, rise + 1)]
    falling = [1 - Fraction(i, fall + 1) for i in range(1, fall + 1)]
    inside = [Fraction(1)] * (end - first)
    return [Fraction(0)] * (first - rise) + rising + inside + falling + [Fraction(0)] * (FRAMES - end - fall)


def faded(first: int, end: int, crossfade_frames: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return Repaint(CLEAN.to(dtype), (first, end), 0.5, crossfade_frames).fade(PAINTED.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@given(st.data())
def test_a_fade_is_as_long_as_there_is_room_and_goes_all_the_way(dtype: torch.dtype, data: st.DataObject):
    first = data.draw(st.integers(0, FRAMES - 1))
    end = data.draw(st.integers(first + 1, FRAMES))
    crossfade_frames = data.draw(st.integers(1, 50))
    blended = faded(first, end, crossfade_frames, dtype)
    x, clean = PAINTED.to(dtype).double(), CLEAN.to(dtype).double()
    share = torch.tensor([float(each) for each in shares(first, end, crossfade_frames)]).double()[:, None]
    exact = share * x + (1 - share) * clean
    assert torch.allclose(blended.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)
    assert torch.equal(blended[:, first:end], PAINTED.to(dtype)[:, first:end])
    beyond = share[:, 0] == 0
    assert torch.equal(blended[:, beyond], CLEAN.to(dtype).expand(2, -1, -1)[:, beyond])
    assert blended.dtype == dtype


def test_near_an_end_the_fade_is_steeper_and_not_cut_off():
    """Four frames before the region, a crossfade of nine: fifths, not six tenths to nine tenths."""
    blended, x = faded(4, 30, 9), PAINTED
    share = torch.tensor([0.2, 0.4, 0.6, 0.8]).double()[:, None]
    assert torch.allclose(blended[:, :4], share * x[:, :4] + (1 - share) * CLEAN[:, :4], atol=1e-7)
    cut_off = torch.tensor([0.6, 0.7, 0.8, 0.9]).double()[:, None]
    assert not torch.allclose(blended[:, :4], cut_off * x[:, :4] + (1 - cut_off) * CLEAN[:, :4], atol=0.05)


def test_without_a_crossfade_nothing_is_faded():
    assert torch.equal(faded(4, 30, 0), PAINTED)


def test_the_rest_is_put_back_and_the_region_is_not():
    kept = Repaint(CLEAN, (4, 30), 0.5, 0).put_back(PAINTED, CLEAN)
    assert torch.equal(kept[:, 4:30], PAINTED[:, 4:30])
    for rest in (slice(0, 4), slice(30, FRAMES)):
        assert torch.equal(kept[:, rest], CLEAN.expand(2, -1, -1)[:, rest])


@pytest.mark.parametrize(
    ("ratio", "steps", "each", "but_the_last"),
    [(0.0, 8, 0, 0), (0.5, 8, 4, 4), (0.9, 8, 7, 7), (0.95, 8, 8, 7), (1.0, 8, 8, 7), (1.0, 1, 1, 0)],
)
def test_the_recording_is_put_back_after_a_share_of_the_steps(ratio, steps, each, but_the_last):
    assert Repaint(CLEAN, (4, 30), ratio, 4).put_backs(steps) == each
    assert Repaint(CLEAN, (4, 30), ratio, 4, spare_last=True).put_backs(steps) == but_the_last
