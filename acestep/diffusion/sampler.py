"""The sampler of flow matching: noise to latents along a nearly straight path, in a handful of steps.

x_t = t·noise + (1 - t)·data, so the velocity v = noise - data points back along the path and
x(t') = x(t) - v·(t - t'). Time runs from 1 to 0; the last step lands on the data. From x and v at time t the
data is x - v·t; that is what a step believes, and solvers differ in how they use it:

    ode    follow v                                   error ~ 1/N
    heun   follow the mean of v at both ends          error ~ 1/N², two passes a step
    sde    believe the data, and noise it again to t'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from acestep.diffusion.guidance import Guidance, cfg
from acestep.diffusion.repaint import Repaint
from acestep.models.dit import Conditions, DiT, Modulation
from harness.spans import span

LATENT_CHANNELS = 64
FRESH = 0x9E3779B9  # flips bits of a seed: the stream of sde's noise; CPU generators read 32 bits of a seed


def noise(seeds: Sequence[int], frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`[B, T, 64]` Gaussian noise, one seed per item, so an item does not depend on its batch."""
    return _draw(_streams(seeds, device), frames, dtype)


def blend_start(noise: Tensor, clean: Tensor, t: float) -> Tensor:
    """Where a schedule that starts at `t` finds its latents: `t·noise + (1 - t)·clean`, `[B, T, 64]`.

    `clean [1 or B, T, 64]`; `t` as the model dtype holds it.
    """
    return _path(noise, clean, _held([t], noise.dtype)[0])


def modulate(dit: DiT, times: Sequence[float], dtype: torch.dtype, device: torch.device) -> Modulation:
    """The schedule's modulation. Times round to the model dtype first, as in training."""
    return dit.modulate(torch.tensor(times, dtype=dtype, device=device))


def denoise(
    dit: DiT,
    x: Tensor,
    conditions: Conditions,
    modulation: Modulation,
    times: Sequence[float],
    *,
    method: str = "ode",
    guidance: Guidance | None = None,
    later: Conditions | None = None,
    later_from: int = 0,
    repaint: Repaint | None = None,
    seeds: Sequence[int] = (),
) -> tuple[Tensor, int]:
    """Latents `[B, T, 64]` from noise `x`, and how many forward passes of the DiT they took.

    `method`: `ode`, `sde` or `heun`. `later`: the conditions of steps `later_from` and on, when they change.
    `seeds`: one per item, for the noise of `sde`. With `guidance`, conditions hold their null branch.

    The next time of `sde` is the schedule's, with every variant; upstream's base models forget the shift
    there. Steps are queued without waiting: sizes are host numbers and no value is read back. Differences
    are taken between times as the model dtype holds them.
    """
    held = [*_held(times, x.dtype), 0.0]
    put_backs = repaint.put_backs(len(times)) if repaint else 0
    fresh = _streams([seed ^ FRESH for seed in seeds], x.device)
    field = _Field(dit, modulation, guidance, times, held)
    begun = x
    for step, (t, t_next) in enumerate(pairwise(held)):
        if later is not None and step >= later_from:
            conditions = later
        with span("step"):
            velocity = field.velocity(x, conditions, step)
            if method == "sde":
                x = _path(_draw(fresh, x.shape[1], x.dtype), x - velocity * t, t_next)
            elif method == "heun" and t_next > 0:
                guess = x - velocity * (t - t_next)
                ahead = field.velocity(guess, conditions, step + 1, corrector=True)
                x = x - (velocity + ahead) * ((t - t_next) / 2)
            else:
                x = x - velocity * (t - t_next)
            if repaint and step < put_backs:
                x = repaint.put_back(x, _path(begun, repaint.clean, t_next))
    return (repaint.fade(x) if repaint else x), field.passes


@dataclass
class _Field:
    """The velocity field that a solver follows: the DiT, guided where it is to be."""

    dit: DiT
    modulation: Modulation
    guidance: Guidance | None
    times: Sequence[float]  # as asked for, which is what the guidance's interval is about
    held: Sequence[float]  # as the model sees them
    momentum: Tensor | None = None
    passes: int = 0

    def velocity(self, x: Tensor, conditions: Conditions, step: int, *, corrector: bool = False) -> Tensor:
        """Velocity `[B, T, 64]` at the step's time. A corrector's is guided plainly, and leaves the momentum
        to the steps themselves.
        """
        self.passes += 1
        guidance = self.guidance
        if guidance is None or not guidance.active(self.times[step]):
            return self.dit.velocity(x, conditions, self.modulation, step)
        cond, null = self.dit.velocities(x, conditions, self.modulation, step)
        if corrector:
            return cfg(cond, null, guidance.scale)
        velocity, self.momentum = guidance.combine(x, cond, null, self.held[step], self.momentum)
        return velocity


def _path(noise: Tensor, data: Tensor, t: float) -> Tensor:
    """Where the straight path from `data` to `noise` is at time `t`; exactly `data` at 0."""
    return t * noise + (1 - t) * data


def _held(times: Sequence[float], dtype: torch.dtype) -> list[float]:
    return torch.tensor(times, dtype=dtype).tolist()


def _streams(seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def _draw(streams: Sequence[torch.Generator], frames: int, dtype: torch.dtype) -> Tensor:
    """The next `[B, T, 64]` of Gaussian noise, an item from each stream."""
    shape = (1, frames, LATENT_CHANNELS)
    return torch.cat(
        [torch.randn(shape, generator=stream, dtype=dtype, device=stream.device) for stream in streams]
    )
