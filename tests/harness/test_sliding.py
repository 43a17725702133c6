"""Attention within a window: every length and window against the scores of all pairs, both sides or one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.nn.attend import Attend, Band, sliding
from harness.parity import compare

LIMIT = 1e-12
LENGTHS, WINDOWS = range(1, 15), range(1, 6)


def heads(length: int) -> list[Tensor]:
    """q of four heads, k and v of two."""
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(2, n, length, 6, generator=generator, dtype=torch.float64) for n in (4, 2, 2)]


def all_pairs(length: int, window: int, ahead: bool) -> Tensor:
    q, k, v = heads(length)
    k, v = (part.repeat_interleave(2, dim=1) for part in (k, v))
    distance = torch.arange(length)[:, None] - torch.arange(length)
    seen = (distance <= window) & (distance >= (-window if ahead else 0))
    scores = (q @ k.transpose(-1, -2) / 6**0.5).masked_fill(~seen, -torch.inf)
    return scores.softmax(-1) @ v


def windowed(length: int, window: int, ahead: bool) -> Attend:
    return sliding(2, length, window, torch.float64, torch.device("cpu"), ahead)


@pytest.mark.parametrize("ahead", [True, False])
def test_a_query_sees_what_is_near(ahead: bool) -> None:
    for length in LENGTHS:
        for window in WINDOWS:
            result = windowed(length, window, ahead)(*heads(length))
            assert compare(all_pairs(length, window, ahead), result).relative_rms < LIMIT, (length, window)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("by", [-1, 1])
def test_a_window_of_another_size_is_noticed(by: int, ahead: bool) -> None:
    result = windowed(12, 3 + by, ahead)(*heads(12))
    assert compare(all_pairs(12, 3, ahead), result).relative_rms > 1e-3


def test_the_other_side_costs_a_block() -> None:
    bands = [windowed(12, 3, ahead) for ahead in (True, False)]
    assert [band.bias.shape for band in bands if isinstance(band, Band)] == [(8, 1, 3, 9), (8, 1, 3, 6)]
