"""The generator's source: a sine of the pitch where there is a voice, and noise.

    phase(n) = Σ f0 / rate over the samples to n, in cycles       sine = 0.1·sin(2π·phase)
    voiced: sine + 0.003·eps                                      unvoiced: 0.1/3·eps

The phase grows with the length of a recording and only its fraction counts, so it is fp64, on the host:
summed in fp32 it is off by 4e-4 cycles after 10 s. Who computes a recording in chunks slices what this makes
of the whole of it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

AMPLITUDE = 0.1
VOICED_NOISE, UNVOICED_NOISE = 0.003, AMPLITUDE / 3


def phase(f0: Tensor, hop: int, sample_rate: int) -> Tensor:
    """Cycles in [0, 1) at each sample `[B, T, hop]`, fp64 on the host, of `f0 [B, T]` Hz of frames."""
    cycles = f0.to("cpu", torch.float64) / sample_rate  # per sample
    before = (cycles.cumsum(-1) - cycles) * hop
    within = torch.arange(1, hop + 1, dtype=torch.float64, device="cpu")
    return torch.addcmul(before.remainder_(1)[..., None], cycles[..., None], within).remainder_(1)


def sine(f0: Tensor, hop: int, sample_rate: int) -> Tensor:
    """The sine of the pitch `[B, T, hop]`, fp64 on the host; 0 in frames without a voice (f0 = 0)."""
    wave = phase(f0, hop, sample_rate).mul_(2 * math.pi).sin_()
    return wave.mul_(AMPLITUDE * (f0 > 0).to(wave)[..., None])


class Source(nn.Module):
    """Weights as published below `dec.m_source.`: one scale and one bias."""

    def __init__(self, hop: int, sample_rate: int):
        super().__init__()
        self.hop, self.sample_rate = hop, sample_rate
        self.l_linear = nn.Linear(1, 1)

    def forward(self, f0: Tensor, eps: Tensor) -> Tensor:
        """The source `[B, T·hop, 1]` of `f0 [B, T]` Hz on the host, with the noise `eps [B, T·hop, 1]`."""
        voiced = f0 > 0
        noise = torch.where(voiced, VOICED_NOISE, UNVOICED_NOISE).to(eps)[..., None]
        wave = sine(f0, self.hop, self.sample_rate).to(eps)
        wave = torch.addcmul(wave, eps.unflatten(1, wave.shape[1:])[..., 0], noise)
        return torch.tanh_(self.l_linear(wave.flatten(1)[..., None]))
