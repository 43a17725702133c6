"""How far one result is from another that should be the same: of a quantization, a compiler, a device.

    compare(velocity, quantized.velocity)    Parity(relative_rms=0.008, max_abs=0.05, snr_db=41.9)

Relative RMS is the error's length as a share of the reference's, and the signal-to-noise ratio the same in
decibels: -20·log10. Neither depends on how loud or how long the reference is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Parity:
    """Distance from a reference. Of equal results: 0, 0 and infinite."""

    relative_rms: float
    max_abs: float  # in the unit of what was compared
    snr_db: float


def compare(reference: Tensor, other: Tensor) -> Parity:
    """The distance of `other` from `reference`, real tensors of one shape, in fp64.

    Where either holds an infinity or a NaN the distance is infinite; so is the relative one from a
    reference of zeros. Raises ValueError for other shapes, and for tensors without elements.
    """
    if reference.shape != other.shape or not reference.numel():
        raise ValueError(f"cannot compare {tuple(reference.shape)} with {tuple(other.shape)}")
    wide, noisy = (tensor.detach().to("cpu", torch.float64) for tensor in (reference, other))
    error = noisy - wide
    if not error.isfinite().all():
        return Parity(math.inf, math.inf, -math.inf)
    noise, signal = (torch.linalg.vector_norm(tensor).item() for tensor in (error, wide))
    if noise == 0:
        return Parity(0.0, 0.0, math.inf)
    relative = noise / signal if signal else math.inf
    return Parity(relative, error.abs().max().item(), -20 * math.log10(relative))
