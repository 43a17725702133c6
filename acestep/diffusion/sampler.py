"""The sampler of flow matching: noise to latents along a nearly straight path, in a handful of steps.

x_t = t·noise + (1 - t)·data, so the velocity v = noise - data points back along the path and
x(t') = x(t) - v·(t - t'). Time runs from 1 to 0; the last step lands on the data. From x and v at time t the
data is x - v·t; that is what a step believes, and solvers differ in how they use it:

    ode    follow v                                   error ~ 1/N
    heun   follow the mean of v at both ends          error ~ 1/N², two passes a step
    sde    believe the data, and noise it again to t'

A step is the velocity (`velocity`), the solver, the correction of its result (`dcw`), and what is put back of
a recording.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from acestep.diffusion.dcw import DCW
from acestep.diffusion.guidance import Guidance
from acestep.diffusion.repaint import Repaint
from acestep.diffusion.step import Passes
from acestep.diffusion.velocity import VelocityField
from acestep.models.dit import Conditions, DiT, Modulation
from harness.spans import span

LATENT_CHANNELS = 64
FRESH = 0x9E3779B9  # flips bits of a seed: the stream of sde's noise; CPU generators read 32 bits of a seed


def noise(seeds: Sequence[int], frames: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`[B, T, 64]` Gaussian noise, one seed per item, so an item does not depend on its batch."""
    return draw(streams(seeds, device), frames, dtype)


def retake(noise: Tensor, other: Tensor, variance: float) -> Tensor:
    """`noise` turned towards `other`, both Gaussian, by a quarter turn at `variance` 1: Gaussian all the way.

    cos(π/2·w)·noise + sin(π/2·w)·other, w the variance.
    """
    angle = math.pi / 2 * variance
    return math.cos(angle) * noise + math.sin(angle) * other


def blend_start(noise: Tensor, clean: Tensor, t: float) -> Tensor:
    """Where a schedule that starts at `t` finds its latents: `t·noise + (1 - t)·clean`, `[B, T, 64]`.

    `clean [1 or B, T, 64]`; `t` as the model dtype holds it.
    """
    return path(noise, clean, hold([t], noise.dtype)[0])


def modulate(dit: DiT, times: Sequence[float], dtype: torch.dtype, device: torch.device) -> Modulation:
    """The schedule's modulation. Times round to the model dtype first, as in training."""
    return dit.modulate(torch.tensor(times, dtype=dtype, device=device))


@dataclass(frozen=True)
class Options:
    """What a plan says of the sampler.

    `method`: `ode`, `sde` or `heun`. `correct_last`: heun's last step has a corrector, too, at time 0, for
    which the modulation holds one time more. With `guidance`, conditions hold their null branch.
    `norm_threshold`, `ema_factor`: those of `VelocityField`.
    """

    method: str = "ode"
    correct_last: bool = False
    guidance: Guidance | None = None
    norm_threshold: float = 0.0
    ema_factor: float = 0.0
    dcw: DCW | None = None

    def field(
        self, dit: DiT | Passes, modulation: Modulation, times: Sequence[float], dtype: torch.dtype
    ) -> VelocityField:
        """The velocities of a schedule, whose times the model holds in `dtype`."""
        held = [*hold(times, dtype), 0.0]
        return VelocityField(
            dit, modulation, [*times, 0.0], held, self.guidance, self.norm_threshold, self.ema_factor
        )


def denoise(
    dit: DiT | Passes,
    x: Tensor,
    conditions: Conditions,
    modulation: Modulation,
    times: Sequence[float],
    options: Options,
    *,
    later: Conditions | None = None,
    later_from: int = 0,
    repaint: Repaint | None = None,
    seeds: Sequence[int] = (),
) -> tuple[Tensor, int]:
    """Latents `[B, T, 64]` from noise `x`, and how many forward passes of the DiT they took.

    `later`: the conditions of steps `later_from` and on, when they change. `seeds`: one per item, for the
    noise of `sde`.

    The next time of `sde` is the schedule's, with every variant; upstream's base models forget the shift
    there. Steps are queued without waiting: sizes are host numbers and no value is read back. Differences
    are taken between times as the model dtype holds them.
    """
    put_backs = repaint.put_backs(len(times)) if repaint else 0
    fresh = streams([seed ^ FRESH for seed in seeds], x.device)
    field = options.field(dit, modulation, times, x.dtype)
    begun = x
    for step, (t, t_next) in enumerate(pairwise(field.held)):
        if later is not None and step >= later_from:
            conditions = later
        with span("step"):
            velocity = field.velocity(x, conditions, step)
            believed = x - velocity * t if options.dcw else None
            x = _solved(x, velocity, field, conditions, step, options, fresh)
            if options.dcw and believed is not None:
                x = options.dcw.correct(x, believed, t)
            if repaint and step < put_backs:
                x = repaint.put_back(x, path(begun, repaint.clean, t_next))
    return (repaint.fade(x) if repaint else x), field.passes


def _solved(
    x: Tensor,
    velocity: Tensor,
    field: VelocityField,
    conditions: Conditions,
    step: int,
    options: Options,
    fresh: Sequence[torch.Generator],
) -> Tensor:
    """Latents at the end of a step that starts at `x` with `velocity`."""
    t, t_next = field.held[step : step + 2]
    if options.method == "sde":
        return path(draw(fresh, x.shape[1], x.dtype), x - velocity * t, t_next)
    if options.method == "heun" and (t_next > 0 or options.correct_last):
        guess = x - velocity * (t - t_next)
        ahead = field.velocity(guess, conditions, step + 1, corrector=True)
        velocity = (velocity + ahead) / 2
        field.follow(velocity)
    return x - velocity * (t - t_next)


def path(noise: Tensor, data: Tensor, t: float) -> Tensor:
    """Where the straight path from `data` to `noise` is at time `t`; exactly `data` at 0."""
    return t * noise + (1 - t) * data


def hold(times: Sequence[float], dtype: torch.dtype) -> list[float]:
    """Times as the model dtype holds them."""
    return torch.tensor(times, dtype=dtype).tolist()


def streams(seeds: Sequence[int], device: torch.device) -> list[torch.Generator]:
    """A random stream per item."""
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def draw(streams: Sequence[torch.Generator], frames: int, dtype: torch.dtype) -> Tensor:
    """The next `[B, T, 64]` of Gaussian noise, an item from each stream."""
    shape = (1, frames, LATENT_CHANNELS)
    return torch.cat(
        [torch.randn(shape, generator=stream, dtype=dtype, device=stream.device) for stream in streams]
    )
