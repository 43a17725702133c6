"""Qwen3-TTS as a subject of measurement (`harness.subject`). No torch import here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from harness.subject import Folder
from subjects.qwen3_tts.config import FRAME_SAMPLES

if TYPE_CHECKING:
    from subjects.qwen3_tts.plan import Plan
    from subjects.qwen3_tts.result import Result

CLIPPED = 0.01  # share of samples at full scale, from which on an item is


@dataclass(frozen=True)
class Qwen3TTS(Folder):
    """See `harness.subject.Subject`."""

    package: ClassVar[str] = "subjects.qwen3_tts"
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


SUBJECT = Qwen3TTS()
