"""Waveforms and the latents they come from: level, sanity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness.errors import BenchError

SILENCE = 1e-5  # both RMS and peak at or below this: nothing to hear


def protect(audio: Tensor) -> Tensor:
    """Divide each item of `[B, 2, N]` by its peak where that exceeds 1; others are left alone."""
    return audio / audio.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1)


def check_latents(latents: Tensor) -> None:
    """Raise BenchError when `latents [B, T, 64]` are not finite or all zero: nothing to decode."""
    if not bool(latents.isfinite().all()):
        raise BenchError(f"diffusion: latents are NaN or infinite in {_cause(latents.dtype)}")
    if not bool(latents.any()):
        raise BenchError("diffusion: latents are all zero; is the checkpoint complete?")


def check_peak(peak: float, seed: int, dtype: torch.dtype) -> None:
    """Raise BenchError when the `peak` of an item that the VAE decoded in `dtype` is not finite, as it is
    where any sample is not."""
    if not math.isfinite(peak):
        raise BenchError(f"vae: samples of seed {seed} are NaN or infinite in {_cause(dtype)}")


def _cause(dtype: torch.dtype) -> str:
    """The name of a `dtype` whose values are not finite, and what to do about it."""
    cause = "are the weights damaged? download them again"
    if dtype == torch.float16:
        cause = "its range may be too small: try --dtype fp32"
    return f"{str(dtype).removeprefix('torch.')}; {cause}"


def adjusted(latents: Tensor, rescale: float, shift: float) -> Tensor:
    """`latents · rescale + shift`, before they are decoded."""
    return latents if (rescale, shift) == (1, 0) else latents * rescale + shift


def levels(audio: Tensor) -> tuple[float, float]:
    """Peak and RMS of one waveform `[2, N]`."""
    return audio.abs().max().item(), audio.square().mean().sqrt().item()


def is_silent(peak: float, rms: float) -> bool:
    return peak <= SILENCE and rms <= SILENCE
