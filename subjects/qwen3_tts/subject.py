"""Qwen3-TTS as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.subject import DEFAULT_DURATION_S
from subjects.qwen3_tts import plan as plans
from subjects.qwen3_tts.config import FRAME_SAMPLES
from subjects.qwen3_tts.plan import Plan
from subjects.qwen3_tts.request import Request, request
from subjects.qwen3_tts.setup import Setup

if TYPE_CHECKING:
    from torch import nn

    from harness.memory import MemoryBudget
    from harness.subject import Component
    from harness.trace.fake_card import FakeCard
    from subjects.qwen3_tts.engine import Engine
    from subjects.qwen3_tts.result import Result

CLIPPED = 0.01  # share of samples at full scale, from which on an item is


@dataclass(frozen=True)
class Qwen3TTS:
    """See `harness.subject.Subject`."""

    name: str = "qwen3_tts"
    stages: tuple[str, ...] = (
        *("prompt", "talker_prefill", "talker_decode", "sampling", "code_predictor"),
        *("compile", "decode", "save"),
    )
    columns: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "talker_s": ("talker_prefill", "talker_decode"),
            "code_predictor_s": ("code_predictor",),
            "decoder_12hz_s": ("decode",),
        }
    )
    tokens: tuple[str, str] | None = ("talker_tokens", "talker_decode")

    def setup(self, source: str | None = None, **choices: Any) -> Setup:
        return Setup.choose(source, **choices)

    def request(self, duration_s: float | None = DEFAULT_DURATION_S, **fields: Any) -> Request:
        return request(duration_s, **fields)

    def resolve(self, request: Request, setup: Setup) -> Plan:
        return plans.resolve(request, setup)

    def load(self, setup: Setup, *, budget: MemoryBudget | None = None, threads: int | None = None) -> Engine:
        from subjects.qwen3_tts.engine import Engine

        return Engine.from_setup(setup, budget=budget, threads=threads)

    def load_fake(self, setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
        from subjects.qwen3_tts import fake_engine

        return fake_engine.load(setup, card, budget)

    def stand_ins(self, setup: Setup) -> dict[str, Any]:
        return {}

    def repeated(self) -> tuple[type[nn.Module], ...]:
        from subjects.qwen3_tts.fake_engine import REPEATED

        return REPEATED

    def check(self, result: Result, plan: Plan) -> str | None:
        """Count, length to the sample, finite, heard, not clipped."""
        if len(result.audios) != plan.request.batch_size:
            return f"{len(result.audios)} items came back, {plan.request.batch_size} were asked for"
        for index, (audio, codes) in enumerate(zip(result.audios, result.codes, strict=True)):
            frames = codes.shape[-1] if plan.frames is None else plan.frames
            samples = audio.tensor.shape[-1]
            if samples != frames * FRAME_SAMPLES:
                return f"item {index} has {samples:,} samples, {frames * FRAME_SAMPLES:,} were asked for"
            if not bool(audio.tensor.isfinite().all()):
                return f"item {index} has samples that are not numbers"
            if audio.silent:
                return f"item {index} is silent"
            if (share := float((audio.tensor.abs() >= 1).double().mean())) > CLIPPED:
                return f"item {index} is clipped: {share:.0%} of its samples are at full scale"
        return None

    def components(self, source: str) -> dict[str, Component]:
        from subjects.qwen3_tts.networks import components

        return components(source)


SUBJECT = Qwen3TTS()
