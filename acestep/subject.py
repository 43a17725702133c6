"""ACE-Step 1.5 as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from acestep import presets, resolver
from acestep.defaults import DEFAULT_DURATION_S, DEFAULT_SEED
from acestep.effective_plan import EffectivePlan
from acestep.models.rates import FRAME_SAMPLES, SAMPLE_RATE
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.tier_case import TierCases
from harness.subject import DEFAULT_PRESET, Folder, item_seeds

if TYPE_CHECKING:
    from acestep.result import GenerationResult

PLANNING, DIFFUSION, DECODING = ("lm_prefill", "lm_decode"), ("diffuse",), ("vae_decode",)  # stages


class Request(NamedTuple):
    """A request as `Subject.resolve` takes it: parameters of the music and of the run."""

    params: GenerationParams
    config: GenerationConfig


@dataclass(frozen=True)
class AceStep(TierCases, Folder):
    """See `harness.subject.Subject`."""

    package: ClassVar[str] = "acestep"
    fake_engine: ClassVar[str] = "tracing.fake_engine"
    name: str = "acestep"
    stages: tuple[str, ...] = (
        *("load_audio", "vae_encode", "offload", "lm_prefill", "lm_decode", "text_encode", "condition"),
        *("compile", "diffuse", "vae_decode", "post", "save"),
    )
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"lm_s": PLANNING, "dit_s": DIFFUSION, "vae_s": DECODING}
    )
    tokens: tuple[str, str] | None = ("lm_decode_tokens", "lm_decode")

    def request(
        self,
        duration_s: float | None = DEFAULT_DURATION_S,
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

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {
            "lm_backend": "pt" if setup.lm else None,
            "compiled": "fusion by rule" if setup.compile else None,
        }

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


SUBJECT = AceStep()
