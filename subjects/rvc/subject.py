"""RVC as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.subject import DEFAULT_DURATION_S
from subjects.rvc import plan as plans
from subjects.rvc.plan import Plan
from subjects.rvc.request import Request, request
from subjects.rvc.setup import Setup

if TYPE_CHECKING:
    from torch import nn

    from harness.memory import MemoryBudget
    from harness.subject import Component
    from harness.trace.fake_card import FakeCard
    from subjects.rvc.engine import Engine
    from subjects.rvc.result import Result

CLIPPED = 0.01  # share of samples at full scale, from which on an item is


@dataclass(frozen=True)
class RVC:
    """See `harness.subject.Subject`."""

    name: str = "rvc"
    stages: tuple[str, ...] = (
        *("load_audio", "pitch", "features", "text_encode", "flow", "generate"),
        *("post", "save"),
    )
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "rmvpe_s": ("pitch",),
            "hubert_s": ("features",),
            "synthesis_s": ("text_encode", "flow", "generate"),
        }
    )
    tokens: tuple[str, str] | None = None

    def setup(self, source: str | None = None, **choices: Any) -> Setup:
        return Setup.choose(source, **choices)

    def request(self, duration_s: float | None = DEFAULT_DURATION_S, **fields: Any) -> Request:
        return request(duration_s, **fields)

    def resolve(self, request: Request, setup: Setup) -> Plan:
        return plans.resolve(request, setup)

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None, threads: int | None = None) -> Engine:
        from subjects.rvc.engine import Engine

        return Engine.from_setup(setup, budget=budget, threads=threads)

    def load_fake(self, setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
        from subjects.rvc import fake_engine

        return fake_engine.load(setup, card, budget)

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {}

    def repeated(self) -> tuple[type[nn.Module], ...]:
        from subjects.rvc.fake_engine import REPEATED

        return REPEATED

    def check(self, result: Result, plan: Plan) -> str | None:
        """Count, length to the sample, finite, heard, not clipped."""
        import numpy as np

        from subjects.rvc import conversion

        if len(result.audios) != plan.request.batch_size:
            return f"{len(result.audios)} items came back, {plan.request.batch_size} were asked for"
        if not np.isfinite(result.waves).all():
            return "the generator's samples are not numbers"
        if result.counts.chunks == 1:  # where a longer recording is cut depends on what it holds
            rate = plan.setup.configs.synthesizer.sample_rate
            expected = conversion.output_samples(plan.samples, [], rate, plan.exact)
            if (samples := result.waves.shape[-1]) != expected:
                return f"the result has {samples:,} samples, {expected:,} were expected"
        for index, audio in enumerate(result.audios):
            if audio.silent:
                return f"item {index} is silent"
            full = np.abs(audio.samples.astype(np.int32)) >= 32_767
            if (share := float(full.mean())) > CLIPPED:
                return f"item {index} is clipped: {share:.0%} of its samples are at full scale"
        return None

    def components(self, source: str) -> dict[str, Component]:
        from subjects.rvc.networks import components

        return components(source)


SUBJECT = RVC()
