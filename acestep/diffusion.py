"""Flow matching: noise to latents along a straight path, in a handful of Euler steps.

x_t = t·noise + (1 - t)·data, so the velocity v = noise - data points back along the path and
x(t') = x(t) - v·(t - t'). Time runs from 1 to 0; the last step lands on the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acestep.models.dit import Conditions, DiT, Modulation
from acestep.spans import span

LATENT_CHANNELS = 64
TURBO_STEPS = 8
TURBO_SHIFTS = (1.0, 2.0, 3.0)


def schedule(steps: int, shift: float) -> list[float]:
    """Times of the steps, from 1 downward, without the final 0: `s·u / (1 + (s - 1)·u)`, u = 1 - i/N.

    Turbo was distilled at 8 steps for three shifts, so at 8 the shift snaps to the nearest of them.
    Any other count is an extension of ours (upstream clamps to 8) and takes the formula as it is.
    """
    if steps == TURBO_STEPS:
        shift = min(TURBO_SHIFTS, key=lambda known: abs(known - shift))
    fractions = [1 - i / steps for i in range(steps)]
    return [shift * u / (1 + (shift - 1) * u) for u in fractions]


def noise(seeds: Sequence[int], frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`[B, T, 64]` Gaussian noise, one seed per item, so an item does not depend on its batch."""
    draws = []
    for seed in seeds:
        generator = torch.Generator(device).manual_seed(seed)
        shape = (1, frames, LATENT_CHANNELS)
        draws.append(torch.randn(shape, generator=generator, dtype=dtype, device=device))
    return torch.cat(draws)


def modulate(dit: DiT, times: Sequence[float], dtype: torch.dtype, device: torch.device) -> Modulation:
    """The schedule's modulation. Times round to the model dtype first, as in training."""
    return dit.modulate(torch.tensor(times, dtype=dtype, device=device))


def denoise(
    dit: DiT, x: Tensor, conditions: Conditions, modulation: Modulation, times: Sequence[float]
) -> Tensor:
    """Latents `[B, T, 64]` from noise `x`, one DiT call per time.

    Steps are queued without waiting: sizes are host numbers and no value is read back. Differences
    are taken between times as the model dtype holds them.
    """
    held = torch.tensor([*times, 0.0], dtype=x.dtype).double()
    for index, size in enumerate((held[:-1] - held[1:]).tolist()):
        with span("step"):
            x = x - dit.velocity(x, conditions, modulation, index) * size
    return x
