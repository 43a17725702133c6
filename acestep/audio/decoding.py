"""The stage `vae_decode` of a generation, and the stage `compile` before it: latents to waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from acestep import components
from acestep.audio import waveform
from acestep.audio.decode import Decoded, decode, prepare
from acestep.audio.tile import STAGE, Tiles
from acestep.weights.loading import Models
from harness.captured import Captured
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.memory import MemoryBudget
from harness.spans import span

if TYPE_CHECKING:
    from acestep.effective_plan import EffectivePlan


class Decoding:
    """The VAE's decoder on a plan, which keeps it on the device for as long as it decodes."""

    def __init__(
        self, models: Models, plan: EffectivePlan, budget: MemoryBudget, compiled: Compiled | None = None
    ):
        self.models = models
        self.plan = plan
        self.budget = budget
        self.compiled = compiled if components.VAE in plan.setup.compiled else None

    def decode(self, parts: Sequence[Tensor]) -> list[Decoded]:
        """The waveforms of latents `[B, T, 64]`. Raises BenchError for latents that are not music."""
        models, params, decoded = self.models, self.plan.params, []
        decoder, hop = models.vae.decoder, models.hop
        with models.residency.using(components.VAE):
            for latents in parts:
                graphs = Graphs.on(models.device, self.plan.setup.graphs)
                with Captured(STAGE, graphs, models.met) as captured:
                    tiles = Tiles(decoder, self.compiled, captured)
                    prepare(tiles, latents, hop, self.budget)
                    with span(STAGE):
                        waveform.check_latents(latents)
                        latents = waveform.adjusted(latents, params.latent_rescale, params.latent_shift)
                        decoded.append(decode(decoder, latents, hop, self.budget, tiles))
        return decoded
