"""The source's phase against whole numbers: it is as exact after a minute as at the start."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_rvc import drawn
from torch import Tensor

from harness.parity import compare
from subjects.rvc.models import source

HOP, SAMPLE_RATE = 400, 40_000
PARTS = 8  # of a hertz


def f0(seconds: int) -> Tensor:
    """Multiples of an eighth of a hertz `[1, T]`, between 50 and 1100 Hz."""
    eighths = np.random.RandomState(0).randint(50 * PARTS, 1100 * PARTS, (1, 100 * seconds))
    return torch.from_numpy(eighths) / PARTS


def summed(f0: Tensor) -> np.ndarray:
    """Cycles in [0, 1) of each sample `[1, T·hop]`, summed in whole numbers."""
    eighths = (f0 * PARTS).long().numpy().repeat(HOP, axis=1)
    whole = PARTS * SAMPLE_RATE
    return np.cumsum(eighths, axis=1) % whole / whole


def naive(f0: Tensor, hop: int, sample_rate: int) -> Tensor:
    return (f0.float().repeat_interleave(hop, 1) / sample_rate).cumsum(1).remainder(1).double()


def error(phases: Tensor, f0: Tensor) -> float:
    """The farthest from the truth, the shorter way around."""
    distance = (phases.flatten(1).numpy() - summed(f0)) % 1
    return np.minimum(distance, 1 - distance).max()


def test_phases_are_exact_to_the_end() -> None:
    assert error(source.phase(f0(40), HOP, SAMPLE_RATE), f0(40)) < 1e-10


def test_a_sum_in_single_precision_is_noticed() -> None:
    assert error(naive(f0(10), HOP, SAMPLE_RATE), f0(10)) > 1e-5


def test_a_phase_is_fp64_whatever_the_pitch_is() -> None:
    assert source.phase(f0(1).float(), HOP, SAMPLE_RATE).dtype == torch.float64


@pytest.mark.parametrize(("hz", "scale"), [(0.0, 0.1 / 3), (100.0, 0.003)])
def test_noise_is_louder_without_a_voice(hz: float, scale: float) -> None:
    """With a scale of 1 and a bias of 0 the source is the tanh of sine and noise."""
    network = source.Source(HOP, SAMPLE_RATE).double().requires_grad_(False)
    network.l_linear.weight.fill_(1)
    network.l_linear.bias.fill_(0)
    pitch, eps = torch.full((1, 3), hz), drawn(0, 1, 3 * HOP, 1)
    wave = torch.sin(2 * torch.pi * torch.from_numpy(summed(pitch))) * 0.1 * (hz > 0)
    assert compare(torch.tanh(wave + scale * eps[..., 0]), network(pitch, eps)[..., 0]).relative_rms < 1e-7
