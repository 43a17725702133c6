"""The speaker encoder's log-mel against its formula in fp64: frames, edges, window, floors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.mel import SLANEY, filters
from subjects.qwen3_tts.mel import log_mel

LENGTH = 2_000


def recording(length: int = LENGTH) -> Tensor:
    """Noise that ends in silence, where the floors count."""
    samples = torch.randn(1, length, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples[:, length // 2 :] = 0
    return samples


def expected(samples: Tensor, denominator: int = 1024, edge: int = 384) -> np.ndarray:
    """`denominator`: of the window's angle, one less where it is symmetric."""
    x = samples[0].numpy()
    x = np.concatenate((x[edge:0:-1], x, x[-2 : -edge - 2 : -1]))
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(1024) / denominator)
    turns = np.exp(-2j * math.pi * np.outer(np.arange(513), np.arange(1024)) / 1024)
    rows = filters(SLANEY, 128, 1024, 24_000, 0.0, 12_000.0).numpy()
    frames = [x[start : start + 1024] * window for start in range(0, len(x) - 1023, 256)]
    magnitudes = [np.sqrt(np.abs(turns @ frame) ** 2 + 1e-9) for frame in frames]
    return np.log(np.maximum([rows @ row for row in magnitudes], 1e-5))


def test_bands_are_those_of_the_formula() -> None:
    bands = log_mel(recording())[0].numpy()
    assert bands.shape == (LENGTH // 256, 128)
    assert np.abs(bands - expected(recording())).max() < 1e-9
    assert np.abs(bands[-1] - math.log(1e-5)).min() < 1e-9  # silence is at the floor
    for control in ({"denominator": 1023}, {"edge": 383}):
        other = expected(recording(), **control)
        assert np.abs(bands - other[: len(bands)]).max() > 1e-4


@pytest.mark.parametrize("length", [385, 511, 512, 1279, 1280])
def test_a_frame_is_256_samples(length: int) -> None:
    assert log_mel(recording(length)).shape == (1, length // 256, 128)


def test_a_recording_is_at_fp32_what_it_is_at_fp64() -> None:
    samples = recording()
    assert (log_mel(samples.float()).double() - log_mel(samples)).abs().max() < 1e-3
