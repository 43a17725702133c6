"""A pass of the DiT as a graph: compiled layer by layer, recorded whole.

All layers are the same code at the same shapes, so a compiled graph of one serves them all: two graphs per
bucket (sliding attention beyond its window and full attention), one where the window holds the sequence.

    bucket   rows, tokens, guided or not
    E        encoder tokens differ with every prompt and are the one size left open. They meet nothing but
             the attention kernel, which takes any length

Recorded is the function of latents and of one step's tables; conditions and weights are where they are. A
recording is one set of conditions, guided or not. Solver, guidance and corrections stay outside: which of
them run differs from request to request, and from step to step.

    python -m acestep generate --source synthetic-tiny --compile
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import torch
from torch import Tensor

from acestep.models.dit import Conditions, DiT, Modulation
from harness.captured import Captured
from harness.compiling import Compiled


class Passes:
    """The passes of a DiT, asked for by its own methods; those that are `captured` are replayed."""

    def __init__(self, dit: DiT, captured: Captured):
        self._dit = dit
        self.captured = captured

    def record(self, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
        """Record the passes under `conditions`, guided or not, at any step of a schedule."""
        function = partial(self._function, conditions, guided)
        x, tables = _latents(conditions), modulation.at(0)
        result = x.repeat(2, 1, 1) if guided else x.clone()
        key = (id(conditions), guided)  # `function` keeps the id
        # With the encoder's tokens: cuDNN builds and loads attention per length, which no capture permits.
        met = "DiT", result.shape, guided, conditions.cross[0].k.shape[2]
        self.captured.record(key, met, function, result, x, tables.layers, tables.out)

    def velocity(self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int) -> Tensor:
        """See `DiT.velocity`."""
        return self._run(x, conditions, modulation, step, guided=False)

    def velocities(
        self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int
    ) -> tuple[Tensor, Tensor]:
        """See `DiT.velocities`."""
        cond, null = self._run(x, conditions, modulation, step, guided=True).chunk(2)
        return cond, null

    def _run(
        self, x: Tensor, conditions: Conditions, modulation: Modulation, step: int, *, guided: bool
    ) -> Tensor:
        function = partial(self._function, conditions, guided)
        tables = modulation.at(step)
        return self.captured.run((id(conditions), guided), function, x, tables.layers, tables.out)

    def _function(
        self, conditions: Conditions, guided: bool, x: Tensor, layers: Tensor, out: Tensor
    ) -> Tensor:
        """Velocity `[B, T, 64]`, or guided both `[2·B, T, 64]`, of latents `x` by the tables of one step."""
        velocity = self._dit.both if guided else self._dit.velocity
        return velocity(x, conditions, Modulation(layers, out), 0)


def warm(compiled: Compiled, dit: DiT, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
    """Compile what a pass under `conditions` runs, guided or not, by one pass on zero latents."""

    def step() -> None:
        for cross in conditions.cross:
            for heads in (cross.k, cross.v):
                torch._dynamo.mark_dynamic(heads, 2)
        run = dit.velocities if guided else dit.velocity
        run(_latents(conditions), conditions, modulation, 0)

    compiled.warm(bucket(conditions, guided), step)


def bucket(conditions: Conditions, guided: bool) -> tuple[Hashable, ...]:
    """What the graphs of a pass under `conditions`, guided or not, hold for."""
    return "DiT", conditions.context.shape, conditions.cross[0].null is not None, guided


def _latents(conditions: Conditions) -> Tensor:
    """Zeros `[B, T, 64]`."""
    batch, channels = len(conditions.context), conditions.patch.shape[1] // 2
    return conditions.context.new_zeros(batch, conditions.frames, channels)
