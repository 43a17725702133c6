"""Pitch of a voice: from a salience of 360 bins of 20 cents to Hz, and to the steps that a synthesizer reads.

Cents are above 10 Hz; bin 0 is at 1,997 of them, 31.7 Hz. A pitch is the mean of the bins around the most
salient one, weighted by their salience.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.nn.folded import wide
from subjects.rvc.config import HOP, PITCH_STEPS
from subjects.rvc.mel import log_mel, padded
from subjects.rvc.models.rmvpe import RMVPE
from subjects.rvc.request import ZERO

BIN_CENTS = 20.0
FIRST_CENTS = 1997.3794084376191
BASE_HZ = 10.0
AROUND = 4  # bins to either side of the most salient one
THRESHOLD = 0.03  # of salience, above which a frame is voiced
LOWEST_HZ, HIGHEST_HZ = 50.0, 1_100.0  # of the steps


def cents(hz: Tensor) -> Tensor:
    """Cents of `hz` > 0 above 10 Hz."""
    return 1200 * (hz / BASE_HZ).log2()


def decode(salience: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Pitch in Hz `[B, T]` of `salience [B, T, 360]`, fp32 or as wide; 0 where none exceeds `threshold`."""
    salience = wide(salience)
    most, best = salience.max(-1, keepdim=True)
    offsets = torch.arange(-AROUND, AROUND + 1, device=salience.device)
    weights = F.pad(salience, (AROUND, AROUND)).take_along_dim(best + AROUND + offsets, -1)
    mean = best[..., 0] + (weights * offsets).sum(-1) / weights.sum(-1)
    hz = BASE_HZ * 2 ** ((FIRST_CENTS + BIN_CENTS * mean) / 1200)
    return torch.where(most[..., 0] > threshold, hz, 0)


def coarse(f0: Tensor) -> Tensor:
    """Pitch `f0` in Hz as steps 1 to 255, int64: even in mel from 50 to 1,100 Hz, 1 where unvoiced."""
    mel = 1127 * (f0.double() / 700).log1p()
    low, high = (1127 * math.log1p(hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    steps = (mel - low) * (PITCH_STEPS - 2) / (high - low) + 1
    return steps.clamp(1, PITCH_STEPS - 1).round().long()


def estimate(
    network: RMVPE,
    samples: Tensor,
    *,
    threshold: float = THRESHOLD,
    padding: str = ZERO,
    chunk: int | None = None,
) -> Tensor:
    """Pitch in Hz `[B, N // 160]` of `samples [B, N]` at 16 kHz, 0 where unvoiced.

    `padding`: of the log-mel's end (`mel.padded`); `chunk`: frames of the U-Net at once, which changes none.
    Raises UsageError for a recording too short, or a chunk off the network's grid.
    """
    mel = padded(log_mel(samples), network.grid, padding)
    features = network.features(mel) if chunk is None else network.features_chunked(mel, chunk)
    return decode(network.salience(features), threshold)[:, : samples.shape[-1] // HOP]
