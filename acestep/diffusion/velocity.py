"""The velocity a solver follows: what the DiT predicts, guided, held to a length and smoothed, in this order.

    guided     both branches of a base model, joined (`guidance`)
    clamped    v·min(1, r·|x| / |v|)     |·| over the frames and channels of an item
    smoothed   (1 - a)·v + a·v'          v' the velocity followed before this one

Each is off by default, and then costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.diffusion.guidance import Guidance
from acestep.diffusion.step import Passes
from acestep.models.dit import Conditions, DiT, Modulation

SHORTEST = 1e-10  # of a velocity, so that its length can be divided by


@dataclass
class VelocityField:
    """The velocities along one trajectory, and what they leave to those after them.

    `times`: of the schedule, with the 0 it ends at, as asked for, which is what the guidance's interval is
    about; `held`: as the model sees them. `norm_threshold`: r, `ema_factor`: a; 0 is off.
    """

    dit: DiT | Passes
    modulation: Modulation
    times: Sequence[float]
    held: Sequence[float]
    guidance: Guidance | None = None
    norm_threshold: float = 0.0
    ema_factor: float = 0.0
    momentum: Tensor | None = None
    followed: Tensor | None = None
    passes: int = 0

    def velocity(self, x: Tensor, conditions: Conditions, step: int, *, corrector: bool = False) -> Tensor:
        """Velocity `[B, T, 64]` of latents `x` at a step's time. A corrector's keeps out of the momentum."""
        return self.mean((x,), conditions, step, corrector=corrector)

    def mean(
        self, draws: Sequence[Tensor], conditions: Conditions, step: int, *, corrector: bool = False
    ) -> Tensor:
        """Mean velocity `[B, T, 64]` of several latents, each a pass, guided and clamped by itself.

        All of them begin with the momentum of the step before, and leave the mean of theirs.
        """
        velocities, momenta = [], []
        for x in draws:
            velocity, momentum = self._guided(x, conditions, step, corrector)
            velocities.append(self._clamped(velocity, x))
            if momentum is not None:
                momenta.append(momentum)
        if momenta and not corrector:
            self.momentum = _mean(momenta)
        return self._smoothed(_mean(velocities))

    def follow(self, velocity: Tensor) -> None:
        """Say what a step followed, where that is not the last velocity: heun follows a mean."""
        if self.ema_factor:
            self.followed = velocity

    def _guided(
        self, x: Tensor, conditions: Conditions, step: int, corrector: bool
    ) -> tuple[Tensor, Tensor | None]:
        self.passes += 1
        guidance = self.guidance
        if guidance is None or not guidance.active(self.times[step]):
            return self.dit.velocity(x, conditions, self.modulation, step), None
        cond, null = self.dit.velocities(x, conditions, self.modulation, step)
        if corrector:
            return guidance.correct(x, cond, null, self.held[step]), None
        return guidance.combine(x, cond, null, self.held[step], self.momentum)

    def _clamped(self, velocity: Tensor, x: Tensor) -> Tensor:
        if not self.norm_threshold:
            return velocity
        share = self.norm_threshold * _length(x) / _length(velocity).clamp(min=SHORTEST)
        return (velocity * share.clamp(max=1)).to(velocity.dtype)

    def _smoothed(self, velocity: Tensor) -> Tensor:
        if self.ema_factor and self.followed is not None:
            velocity = torch.lerp(velocity, self.followed, self.ema_factor)
        self.follow(velocity)
        return velocity


def _length(x: Tensor) -> Tensor:
    """`[B, 1, 1]`, at least in single precision."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=wide)


def _mean(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([*tensors]).mean(0) if len(tensors) > 1 else tensors[0]
