"""How right an estimated pitch is, beside voices of known pitch and the salience that is ideal for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from subjects.rvc.config import CENTS_BINS, FRAME_RATE
from subjects.rvc.pitch import BIN_CENTS, FIRST_CENTS, cents

SPREAD_CENTS = 25.0  # of the salience that networks like RMVPE are trained to give, a Gaussian
SPAN_HZ = 80.0, 800.0


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Errors of a pitch in cents, where it and its reference are voiced, and of where it is voiced.

    None where there is nothing to say it of: no frame that both call voiced, or none that either does.
    """

    cents_rms: float | None
    cents_max: float | None
    voiced_f1: float | None  # harmonic mean of precision and recall, 0 to 1


def accuracy(reference: Tensor, estimate: Tensor) -> Accuracy:
    """The accuracy of `estimate` in Hz, 0 where unvoiced, beside a `reference` of its shape."""
    voiced, called = reference > 0, estimate > 0
    both = voiced & called
    total = int(voiced.sum() + called.sum())
    f1 = 2 * int(both.sum()) / total if total else None
    if not both.any():
        return Accuracy(None, None, f1)
    errors = cents(estimate[both].double()) - cents(reference[both].double())
    return Accuracy(errors.square().mean().sqrt().item(), errors.abs().max().item(), f1)


def ideal_salience(f0: Tensor) -> Tensor:
    """Salience `[..., 360]` of pitch `f0` in Hz, fp64: a Gaussian around it, nothing where unvoiced."""
    bins = FIRST_CENTS + BIN_CENTS * torch.arange(CENTS_BINS, dtype=torch.float64)
    distances = (bins - cents(f0.double()[..., None].clamp(min=1))) / SPREAD_CENTS
    return (-distances.square() / 2).exp() * (f0 > 0)[..., None]


def sine(frames: int) -> Tensor:
    """A steady tone of 220 Hz."""
    return torch.full((frames,), 220.0, dtype=torch.float64)


def chirp(frames: int) -> Tensor:
    """A glide from 80 to 800 Hz, as fast in cents throughout."""
    low, high = (math.log2(hz) for hz in SPAN_HZ)
    return 2 ** torch.linspace(low, high, frames, dtype=torch.float64)


def phrases(frames: int) -> Tensor:
    """150 Hz with a vibrato of 50 cents, 5 a second; of each half second the first 0.3 s are voiced."""
    seconds = torch.arange(frames, dtype=torch.float64) / FRAME_RATE
    vibrato = 150 * 2 ** (50 / 1200 * (2 * math.pi * 5 * seconds).sin())
    return torch.where(torch.arange(frames) % (FRAME_RATE // 2) < 0.3 * FRAME_RATE, vibrato, 0)


# Pitch in Hz of so many frames, fp64, 0 where unvoiced.
VOICES: dict[str, Callable[[int], Tensor]] = {"sine": sine, "chirp": chirp, "voiced/unvoiced": phrases}
