"""ACE-Step 1.5 as everything that measures takes it (`harness.subject`). No torch import here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from acestep import resolver
from acestep.request import DEFAULT_DURATION_S, DEFAULT_SEED, GenerationConfig, GenerationParams, item_seeds
from acestep.resolver import EffectivePlan
from acestep.setup import Setup

if TYPE_CHECKING:
    from acestep.engine import Engine
    from harness.memory import MemoryBudget


class Request(NamedTuple):
    """What the music is, and how the run is made."""

    params: GenerationParams
    config: GenerationConfig


@dataclass(frozen=True)
class AceStep:
    """See `harness.subject.Subject`."""

    name: str = "acestep"
    stages: tuple[str, ...] = (
        *("load_audio", "vae_encode", "offload", "lm_prefill", "lm_decode", "text_encode", "condition"),
        *("compile", "diffuse", "vae_decode", "post", "save"),
    )

    def setup(self, **choices: Any) -> Setup:
        return Setup.choose(**choices)

    def request(
        self,
        duration_s: float = DEFAULT_DURATION_S,
        batch_size: int = 1,
        seed: int = DEFAULT_SEED,
        **params: Any,
    ) -> Request:
        """`params`: the other fields of `GenerationParams`."""
        config = GenerationConfig(batch_size=batch_size, seeds=item_seeds(seed, batch_size))
        return Request(GenerationParams(duration=duration_s, **params), config)

    def resolve(self, request: Request, setup: Setup) -> EffectivePlan:
        return resolver.resolve(*request, setup)

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None) -> Engine:
        from acestep.engine import Engine

        return Engine.from_setup(setup, budget=budget)


SUBJECT = AceStep()
