"""A DiT whose velocities are made up, for tests of what follows them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from acestep.diffusion.sampler import Options, denoise, noise

CPU = torch.device("cpu")
DOUBLE = torch.float64
SEEDS = (7, 8)
Velocity = Callable[[Tensor, float], Tensor]


def draw(*seeds: int, frames: int = 6, dtype: torch.dtype = DOUBLE) -> Tensor:
    return noise(seeds, frames, dtype, CPU)


class Field:
    """Velocities `cond(x, t)` and `null(x, t)` at the times of a schedule and at its end, and every call."""

    def __init__(self, times: list[float], cond: Velocity, null: Velocity | None = None):
        self.times, self.cond, self.null = times, cond, null
        self.ends = [*times, 0.0]
        self.seen: list[Tensor] = []
        self.steps: list[int] = []
        self.conditions: list[Any] = []
        self.guided: list[bool] = []

    def velocity(self, x, conditions, modulation, step):
        self._remember(x, conditions, step, guided=False)
        return self.cond(x, self.ends[step])

    def velocities(self, x, conditions, modulation, step):
        assert self.null is not None
        self._remember(x, conditions, step, guided=True)
        return self.cond(x, self.ends[step]), self.null(x, self.ends[step])

    def _remember(self, x, conditions, step, guided):
        for kept, value in zip(
            (self.seen, self.conditions, self.steps, self.guided), (x, conditions, step, guided), strict=True
        ):
            kept.append(value)

    def denoise(self, x: Tensor, **options: Any) -> Tensor:
        chosen, rest = split({"seeds": SEEDS[: len(x)]} | options)
        dit: Any = self
        latents, passes = denoise(dit, x, "first", None, self.times, chosen, **rest)  # type: ignore[arg-type]
        assert passes == len(self.steps)
        return latents


def split(options: dict[str, Any]) -> tuple[Options, dict[str, Any]]:
    """Those that are the sampler's, and the rest."""
    rest = dict(options)
    return Options(
        **{field.name: rest.pop(field.name) for field in fields(Options) if field.name in rest}
    ), rest


def towards(data: Tensor) -> Velocity:
    """The field of a perfect model: from anywhere, straight to the data."""
    return lambda x, t: (x - data) / t


def bent(x: Tensor, t: float) -> Tensor:
    return math.cos(t) * x
