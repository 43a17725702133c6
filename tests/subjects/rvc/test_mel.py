"""The log-mel that RMVPE reads, against its formula in fp64, and what it is padded with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import UsageError
from harness.mel import HTK, SLANEY, Scale, filters
from subjects.rvc.mel import log_mel, padded

LENGTH = 1_700


def recording(length: int = LENGTH) -> Tensor:
    """Noise that ends in silence, where the floor counts."""
    samples = torch.randn(1, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples[:, length // 2 :] = 0
    return samples


def expected(samples: Tensor, denominator: int = 1024, power: int = 1, scale: Scale = HTK) -> np.ndarray:
    """`denominator`: of the window's angle, one less where it is symmetric; `power`: of magnitudes."""
    x = samples[0].numpy()
    x = np.concatenate((x[512:0:-1], x, x[-2:-514:-1]))
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(1024) / denominator)
    turns = np.exp(-2j * math.pi * np.outer(np.arange(513), np.arange(1024)) / 1024)
    rows = filters(scale, 128, 1024, 16_000, 30.0, 8_000.0).numpy()
    frames = [x[start : start + 1024] * window for start in range(0, len(x) - 1023, 160)]
    return np.log(np.maximum([rows @ np.abs(turns @ frame) ** power for frame in frames], 1e-5))


def test_bands_are_those_of_the_formula() -> None:
    bands = log_mel(recording())[0].numpy()
    assert bands.shape == (LENGTH // 160 + 1, 128)
    assert np.abs(bands - expected(recording())).max() < 1e-9
    assert np.abs(bands[-1] - math.log(1e-5)).max() < 1e-9  # silence is at the floor
    for control in ({"denominator": 1023}, {"power": 2}, {"scale": SLANEY}):
        assert np.abs(bands - expected(recording(), **control)).max() > 1e-4


def test_filters_are_the_published_ones() -> None:
    rows = filters(HTK, 128, 1024, 16_000, 30.0, 8_000.0)
    assert abs(rows.sum().item() - 8.1892475) < 1e-7
    assert rows[0].nonzero().flatten().tolist() == [2, 3]
    assert (rows[0, 2:4] - torch.tensor([0.00617564, 0.05678504])).abs().max() < 1e-8
    assert (rows.sum(1) > 0).all()


@pytest.mark.parametrize("length", [513, 639, 640, 16_000])
def test_a_frame_is_160_samples(length: int) -> None:
    assert log_mel(recording(length)).shape == (1, length // 160 + 1, 128)


def test_a_recording_too_short_is_refused() -> None:
    with pytest.raises(UsageError, match=r"audio: 512 samples are too short.*more than 512 at 16 kHz"):
        log_mel(recording(512))


def test_a_recording_is_at_fp32_what_it_is_at_fp64() -> None:
    samples = recording()
    assert (log_mel(samples.float()).double() - log_mel(samples)).abs().max() < 1e-3


@pytest.mark.parametrize("frames", [1, 16, 17, 31, 32, 33, 64])
def test_the_end_is_padded_to_the_grid(frames: int) -> None:
    mel = torch.arange(1.0, frames + 1).view(1, -1, 1).expand(2, -1, 3)
    more = -frames % 32
    longer = padded(mel, 32)
    assert longer.shape == (2, frames + more, 3)
    assert torch.equal(longer[:, :frames], mel) and not longer[:, frames:].any()
    if more < frames:
        reflected = padded(mel, 32, "reflect")
        assert torch.equal(reflected[:, :frames], mel)
        assert reflected[0, frames:, 0].tolist() == [frames - 1 - place for place in range(more)]
    else:
        with pytest.raises(UsageError, match=f"padding: {frames} frames are too few to reflect {more}"):
            padded(mel, 32, "reflect")


def test_another_padding_is_refused() -> None:
    with pytest.raises(UsageError, match="padding: 'edge' is not known; use one of zero, reflect"):
        padded(torch.zeros(1, 32, 3), 32, "edge")
