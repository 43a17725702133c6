"""ACE-Step 1.5 as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from acestep import presets, resolver
from acestep.defaults import DEFAULT_DURATION_S, DEFAULT_SEED
from acestep.effective_plan import EffectivePlan
from acestep.models.rates import FRAME_SAMPLES, SAMPLE_RATE
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.setup import Setup
from acestep.tier_case import TierCases
from harness.subject import DEFAULT_PRESET

if TYPE_CHECKING:
    from torch import nn

    from acestep.engine import Engine
    from acestep.result import GenerationResult
    from harness.memory import MemoryBudget
    from harness.subject import Component
    from harness.trace.fake_card import FakeCard

PLANNING, DIFFUSION, DECODING = ("lm_prefill", "lm_decode"), ("diffuse",), ("vae_decode",)  # stages


class Request(NamedTuple):
    """A request as `Subject.resolve` takes it: parameters of the music and of the run."""

    params: GenerationParams
    config: GenerationConfig


@dataclass(frozen=True)
class AceStep(TierCases):
    """See `harness.subject.Subject`."""

    name: str = "acestep"
    stages: tuple[str, ...] = (
        *("load_audio", "vae_encode", "offload", "lm_prefill", "lm_decode", "text_encode", "condition"),
        *("compile", "diffuse", "vae_decode", "post", "save"),
    )
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"lm_s": PLANNING, "dit_s": DIFFUSION, "vae_s": DECODING}
    )
    tokens: tuple[str, str] | None = ("lm_decode_tokens", "lm_decode")

    def setup(self, **choices: Any) -> Setup:
        return Setup.choose(**choices)

    def request(
        self,
        duration_s: float = DEFAULT_DURATION_S,
        batch_size: int | None = None,
        seed: int = DEFAULT_SEED,
        preset: str = DEFAULT_PRESET,
        **params: Any,
    ) -> Request:
        """`params`: the other fields of `GenerationParams`. What is not said is the preset's."""
        start = presets.named(preset)
        size = start.config.batch_size if batch_size is None else batch_size
        config = replace(start.config, batch_size=size, seeds=item_seeds(seed, size))
        return Request(replace(start.params, duration=duration_s, **params), config)

    def resolve(self, request: Request, setup: Setup) -> EffectivePlan:
        return resolver.resolve(*request, setup)

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None) -> Engine:
        from acestep.engine import Engine

        return Engine.from_setup(setup, budget=budget)

    def load_fake(self, setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
        from acestep.tracing import fake_engine

        return fake_engine.load(setup, card, budget)

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {
            "lm_backend": "pt" if setup.lm else None,
            "compiled": "fusion by rule" if setup.compile else None,
        }

    def repeated(self) -> tuple[type[nn.Module], ...]:
        from acestep.tracing.fake_engine import REPEATED

        return REPEATED

    def check(self, result: GenerationResult, plan: EffectivePlan) -> str | None:
        """Count, length to a latent frame, finite, audible."""
        batch_size, duration_s = plan.config.batch_size, plan.params.duration
        if len(result.audios) != batch_size:
            return f"{len(result.audios)} items came back, {batch_size} were asked for"
        for index, audio in enumerate(result.audios):
            samples = audio.tensor.shape[-1]
            if duration_s is not None and abs(samples - duration_s * SAMPLE_RATE) > FRAME_SAMPLES:
                return f"item {index} lasts {samples / SAMPLE_RATE:.2f} s, {duration_s:g} s were asked for"
            if not bool(audio.tensor.isfinite().all()):
                return f"item {index} has samples that are not numbers"
            if audio.silent:
                return f"item {index} is silent"
        return None

    def components(self, source: str) -> dict[str, Component]:
        from acestep.networks import components

        return components(source)


SUBJECT = AceStep()
