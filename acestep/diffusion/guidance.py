"""Guidance: classifier-free (CFG), adaptive projected (APG) and angle-based (ADG).

Base models run twice on the same latents, told everything (c) and told nothing (u). The difference c - u
points towards what was asked for, and each mode takes a step along it in its own way:

    cfg   all of it             u + g·(c - u)
    apg   only what turns c     c + (g - 1)·(part of the difference orthogonal to c, length limited)
    adg   as an angle           the clean latents c implies, turned away from those u implies

A large g makes plain guidance loud and harsh: it lengthens the velocity along itself. The other two leave
that part out. Everything is computed per item, so an item does not depend on its batch.

Shapes: B batch, T latent frames; velocities and latents `[B, T, 64]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

APG_MOMENTUM = -0.75
APG_LONGEST = 2.5
ADG_WIDEST = 3.14 / 6  # radians; π as upstream writes it
ADG_LEAST = 1e-3


@dataclass(frozen=True)
class Guidance:
    """Scale g (1 = none), mode (`apg`, `adg` or `cfg`), and the times it acts at."""

    scale: float
    mode: str = "apg"
    start: float = 0.0
    end: float = 1.0

    def active(self, t: float) -> bool:
        """Whether steps at time `t` are guided: `start <= t <= end`, on t itself (diffusers takes 1 - t)."""
        return self.start <= t <= self.end

    def combine(
        self, x: Tensor, cond: Tensor, null: Tensor, t: float, momentum: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Velocity from both branches at latents `x` and time `t`, and the momentum for the next guided step.

        `momentum` is what the last guided step returned, None before the first.
        """
        if self.mode == "apg":
            return apg(cond, null, self.scale, momentum)
        if self.mode == "adg":
            return adg(x, cond, null, self.scale, t), momentum
        return cfg(cond, null, self.scale), momentum

    def correct(self, x: Tensor, cond: Tensor, null: Tensor, t: float) -> Tensor:
        """Velocity of heun's corrector from both branches at its own latents `x` and time `t >= 0`.

        ADG is itself, but at 0, where it is plain guidance: there the clean latents are `x` in both branches
        and know no angle. APG is plain guidance, and its momentum is left to the steps.
        """
        if self.mode == "adg" and t > 0:
            return adg(x, cond, null, self.scale, t)
        return cfg(cond, null, self.scale)


def cfg(cond: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance: `u + g·(c - u)`."""
    return null + scale * (cond - null)


def apg(cond: Tensor, null: Tensor, scale: float, momentum: Tensor | None) -> tuple[Tensor, Tensor]:
    """Adaptive projected guidance (arXiv 2410.02416), and its momentum for the next guided step.

    m  = (c - u) - 0.75·m'                 m' the momentum before; negative, so it damps
    d  = m·min(1, 2.5 / |m|)               |·| over time, for each item and channel
    v  = c + (g - 1)·(d - <d, e>·e)        e = c / |c|; of the difference, what is parallel to c goes
    """
    difference = cond - null
    if momentum is not None:
        difference = difference + APG_MOMENTUM * momentum
    length = difference.norm(dim=1, keepdim=True)
    limited = _wide(difference * (APG_LONGEST / length).clamp(max=1))
    along = F.normalize(_wide(cond), dim=1)
    turning = limited - (limited * along).sum(1, keepdim=True) * along
    return cond + (scale - 1) * turning.to(cond.dtype), difference


def adg(x: Tensor, cond: Tensor, null: Tensor, scale: float, t: float) -> Tensor:
    """Angle-based guidance at latents `x` and time `t > 0`, on the clean latents the branches imply.

        c0 = x - t·c,  u0 = x - t·u            θ their angle, for each frame over its 64 channels
        θ' = min(w·θ, π/6),  w = g - 1 + 0.001
        x0 = cos θ'·c0 + (sin θ' / sin θ)·p    p the part of c0 - u0 orthogonal to u0
        v  = (x - x0) / t

    θ is kept 0.0014 away from 0 and π, so its sine can be divided by.
    """
    x0_cond, x0_null = _wide(x) - t * _wide(cond), _wide(x) - t * _wide(null)
    cosine = F.cosine_similarity(x0_cond, x0_null, dim=-1).clamp(1e-6 - 1, 1 - 1e-6)
    angle = cosine.acos()[..., None]
    turn = ((max(scale - 1, 0.0) + ADG_LEAST) * angle).clamp(max=ADG_WIDEST)
    difference = x0_cond - x0_null
    inner = (difference * x0_null).sum(-1, keepdim=True)
    away = difference - inner / (x0_null.square().sum(-1, keepdim=True) + 1e-8) * x0_null
    x0 = turn.cos() * x0_cond + turn.sin() / angle.sin() * away
    return ((_wide(x) - x0) / t).to(cond.dtype)


def _wide(x: Tensor) -> Tensor:
    """`x` in double precision, or in single on Apple's GPUs, which have no double."""
    return x.to(torch.float32 if x.device.type == "mps" else torch.float64)
