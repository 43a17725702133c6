"""A generation takes of a card without memory, stage by stage, what it takes of one made of host memory.

There kernels run and every number is real: weights, sampled codes, latents, waveform. Both count the bytes of
tensors; what lies below PyTorch on a CUDA card is left out.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
import torch
from allocations import BASE, CARD, TINY, setup, song

from acestep.audio.tile_size import VAE_CHUNK
from acestep.costs.planning import Sampled
from acestep.costs.weightless import Weightless
from acestep.diffusion import sampler as diffusion
from acestep.engine import Engine
from acestep.lm.backends.pt_backend import PT
from acestep.request import GenerationConfig
from acestep.result import Counts
from acestep.setup import Setup
from acestep.weights.checkpoint import Source
from acestep.weights.sources import open_source
from harness import spans
from harness.device import VIRTUAL
from harness.trace.fake_card import FakeCard
from harness.virtual_card import VirtualBudget, VirtualCard

SECONDS = 10
REQUESTS = {
    "all on the card, with a language model": setup(lm=True),
    "all offloaded": setup(4),
    "guided": setup(dit=BASE),
}


class RealCard(VirtualCard):
    """Peaks by stage. Composites are taken apart, as they are on the other card: what they make on the way to
    their result is memory too."""

    def __init__(self, cap_bytes: int):
        super().__init__(cap_bytes)
        self.peaks: dict[str, int] = {}

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func.namespace == "aten":
            with self.operators:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        return super().run(func, args, kwargs)

    def _keep(self, storage: torch.UntypedStorage) -> None:
        self._note()
        super()._keep(storage)
        self._note()

    def _release(self, key: int) -> None:
        self._note()  # a stage begins with what the one before has left
        super()._release(key)
        self._note()

    def _note(self) -> None:
        stage = spans.stage() or "other"
        self.peaks[stage] = max(self.peaks.get(stage, 0), self.used_bytes())


def generate(card: VirtualCard, made: Setup, weights: Source) -> Counts:
    params = song(SECONDS, lm=made.lm is not None)
    gc.collect()  # what only it would free is gone, and so are frees at times of its own
    with card, torch.inference_mode():
        with spans.record(), spans.span("load"):
            engine = Engine.from_setup(
                replace(made, device=VIRTUAL), budget=VirtualBudget(card), weights=weights
            )
        if isinstance(card, FakeCard) and engine.planner:
            assert isinstance(engine.planner.backend, PT)
            engine.planner.backend = Sampled(engine.planner.backend, card.tracker.stage_costs)
        return engine.generate(params, GenerationConfig(batch_size=1, seeds=(0,))).counts


@pytest.mark.parametrize("name", REQUESTS)
def test_each_stage_peaks_where_it_really_does(name, monkeypatch):
    monkeypatch.setenv(VAE_CHUNK, "128")
    real, fake = RealCard(CARD.memory_bytes), FakeCard(CARD)
    counts = generate(real, REQUESTS[name], open_source(TINY))
    assert generate(fake, REQUESTS[name], Weightless(open_source(TINY), fake)) == counts
    fake.tracker.close()
    stages = fake.tracker.stage_costs.stages
    assert {stage.name: stage.peak_live_bytes for stage in stages.values()} == real.peaks
    assert len(real.peaks) >= 6


def test_a_tensor_kept_into_the_next_stage_is_heard(monkeypatch):
    """The control: noise that outlives its stage in the real run alone."""
    kept: list[torch.Tensor] = []
    noise = diffusion.noise
    monkeypatch.setenv(VAE_CHUNK, "128")
    real, keeping, fake = RealCard(CARD.memory_bytes), RealCard(CARD.memory_bytes), FakeCard(CARD)
    made = REQUESTS["all offloaded"]
    generate(real, made, open_source(TINY))
    monkeypatch.setattr(diffusion, "noise", lambda *args: kept.append(noise(*args)) or kept[-1])
    generate(keeping, made, open_source(TINY))
    size = kept[0].nbytes
    assert keeping.peaks["vae_decode"] - real.peaks["vae_decode"] == size
    generate(fake, made, Weightless(open_source(TINY), fake))
    assert fake.tracker.stage_costs.stages["vae_decode"].peak_live_bytes == keeping.peaks["vae_decode"]
    kept.clear()
