"""The DiT step as a graph: compiled, layer by layer.

All layers are the same code at the same shapes, so a graph of one serves them all: two graphs per bucket
(sliding attention beyond its window and full attention), one where the window holds the sequence.

    bucket   rows, tokens, guided or not
    E        encoder tokens differ with every prompt and are the one size left open. They meet nothing but
             the attention kernel, which takes any length

    python -m acestep generate --source synthetic-tiny --compile
"""

from __future__ import annotations

from acestep.models.dit import Conditions, DiT, Modulation
from harness.compiling import Compiled


def warm(compiled: Compiled, dit: DiT, conditions: Conditions, modulation: Modulation, guided: bool) -> None:
    """Compile what a step under `conditions` runs, guided or not, by one step on zero latents."""

    def step() -> None:
        import torch

        for cross in conditions.cross:
            for heads in (cross.k, cross.v):
                torch._dynamo.mark_dynamic(heads, 2)
        batch, channels = len(conditions.context), conditions.patch.shape[1] // 2
        x = conditions.context.new_zeros(batch, conditions.frames, channels)
        run = dit.velocities if guided else dit.velocity
        run(x, conditions, modulation, 0)

    with_null = conditions.cross[0].null is not None
    compiled.warm(("DiT", conditions.context.shape, with_null, guided), step)
