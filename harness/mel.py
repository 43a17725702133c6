"""Mel spectrograms: magnitudes of a short-time Fourier transform, and triangular filters over them.

Slaney's scale (Auditory Toolbox, 1998) is linear up to 1 kHz and logarithmic above, 27 bands for each factor
of 6.4; that of HTK (The HTK Book, 5.6) is logarithmic throughout:

    SLANEY   m(f) = 3·f / 200                        f < 1 kHz
                    15 + 27·ln(f / 1 kHz) / ln 6.4   from there on
    HTK      m(f) = 2595·log10(1 + f / 700)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

KNEE_HZ, KNEE_MEL = 1_000.0, 15.0
STEP = math.log(6.4) / 27  # of ln f for a mel, above the knee


def magnitudes(samples: Tensor, window: Tensor, hop: int, floor: float = 0.0) -> Tensor:
    """`sqrt(re² + im² + floor)` of the spectra of windows `[B, (N - n) // hop + 1, n // 2 + 1]`.

    `samples [B, N]`, N >= n; `window [n]`: by which n samples are multiplied. Nothing is padded.
    """
    spectra = torch.fft.rfft(samples.unfold(-1, len(window), hop) * window)
    return (spectra.real.square() + spectra.imag.square() + floor).sqrt()


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale of pitch: mel of frequencies in Hz, and back."""

    mel: Callable[[Tensor], Tensor]
    hz: Callable[[Tensor], Tensor]


@cache
def filters(scale: Scale, bands: int, size: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Filters `[bands, size // 2 + 1]`, fp64, over the bins of a Fourier transform of `size` samples.

    Filter i is a triangle from the i-th of `bands` + 2 frequencies to the one after the next, evenly spaced
    in mel by `scale` from `low_hz` to `high_hz`. Over frequency in Hz its area is 1.
    """
    first, last = scale.mel(torch.tensor([low_hz, high_hz], dtype=torch.float64)).tolist()
    low, peak, high = scale.hz(torch.linspace(first, last, bands + 2, dtype=torch.float64)).unfold(
        0, bands, 1
    )
    bins = torch.arange(size // 2 + 1, dtype=torch.float64) * (sample_rate / size)
    rising = (bins - low[:, None]) / (peak - low)[:, None]
    falling = (high[:, None] - bins) / (high - peak)[:, None]
    return torch.minimum(rising, falling).clamp(min=0) * (2 / (high - low))[:, None]


def _slaney_mel(hz: Tensor) -> Tensor:
    return torch.where(hz < KNEE_HZ, hz * (KNEE_MEL / KNEE_HZ), KNEE_MEL + (hz / KNEE_HZ).log() / STEP)


def _slaney_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < KNEE_MEL, mel * (KNEE_HZ / KNEE_MEL), KNEE_HZ * ((mel - KNEE_MEL) * STEP).exp())


SLANEY = Scale(_slaney_mel, _slaney_hz)
HTK = Scale(lambda hz: 2595 * (1 + hz / 700).log10(), lambda mel: 700 * (10 ** (mel / 2595) - 1))
