"""The stage `vae_decode` of a generation, and the stage `compile` before it: latents to waveforms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from torch import Tensor

from acestep import components
from acestep.audio import waveform
from acestep.audio.decode import Decoded, Song, decode, prepare
from acestep.audio.tile import STAGE, Tiles
from acestep.weights.loading import Models
from harness.captured import Captured
from harness.compiling import Compiled
from harness.graphs import Graphs
from harness.memory import MemoryBudget
from harness.residency import brought
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
        models, decoded = self.models, []
        parts = brought(models.place(components.VAE), *parts)
        with models.residency.using(components.VAE):
            for latents in parts:
                with self._prepared(latents) as tiles, span(STAGE):
                    latents = self._checked(latents)
                    decoded.append(decode(models.vae.decoder, latents, models.hop, self.budget, tiles))
        return decoded

    @contextmanager
    def songs(self, parts: Sequence[Tensor], chunk_samples: int) -> Iterator[list[Song]]:
        """Inside, the waveforms of latents `[B, T, 64]` are decoded as far as each `Song` is told.

        A tile is as long as `chunk_samples` of a waveform need. Raises as `decode` does.
        """
        models, decoder = self.models, self.models.vae.decoder
        parts = brought(models.place(components.VAE), *parts)
        longest = -(-chunk_samples // models.hop) + 2 * decoder.halo
        with models.residency.using(components.VAE), ExitStack() as stack:
            tiles = [stack.enter_context(self._prepared(latents, longest)) for latents in parts]
            with span(STAGE):
                songs = [
                    Song(of_part, self._checked(latents), models.hop, self.budget, longest)
                    for of_part, latents in zip(tiles, parts, strict=True)
                ]
            yield songs

    @contextmanager
    def _prepared(self, latents: Tensor, longest: int | None = None) -> Iterator[Tiles]:
        """What decodes `latents`, which keeps what is recorded for as long as the block."""
        models = self.models
        graphs = Graphs.on(models.place(components.VAE), self.plan.setup.graphs)
        with Captured(STAGE, graphs, models.met) as captured:
            tiles = Tiles(models.vae.decoder, self.compiled, captured)
            prepare(tiles, latents, models.hop, self.budget, longest)
            yield tiles

    def _checked(self, latents: Tensor) -> Tensor:
        params = self.plan.params
        waveform.check_latents(latents)
        return waveform.adjusted(latents, params.latent_rescale, params.latent_shift)
