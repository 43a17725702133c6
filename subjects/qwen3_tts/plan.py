"""A request as it will run on a setup: prompt, frames, and what is not done as asked. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.adjustments import Adjustment, Adjustments, Warned
from harness.errors import UsageError
from subjects.loading import heard_s, not_held
from subjects.qwen3_tts.layout import (
    BASE,
    CUSTOM_VOICE,
    DEFAULT_SPEAKER,
    SMALL,
    VARIANTS,
    VOICE_DESIGN,
)
from subjects.qwen3_tts.prompt import Prompt, Reference, layout
from subjects.qwen3_tts.request import (
    FRAME_S,
    LEAST_REFERENCE_S,
    MAX_TEXT_IDS,
    MOST_REFERENCE_S,
    Request,
)
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.text import heard, instruction, spoken, tokens


@dataclass(frozen=True, slots=True)
class Plan(Warned):
    """What will run: effective values in `request`, what they come to beside it.

    `text_tokens`: of the text itself. `frames`: exactly so many, or None where the model ends by itself.
    """

    setup: Setup
    request: Request
    prompt: Prompt
    text_tokens: int
    text_streaming: bool
    frames: int | None
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """base, custom_voice or voice_design."""
        return self.setup.configs.kind

    @property
    def most_frames(self) -> int:
        """Frames of the longest item, or the limit of one that ends by itself."""
        return self.request.max_frames if self.frames is None else self.frames

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the record of a run."""
        setup, request = self.setup, self.request
        fields = ("batch_size", "language", "speaker", "reference", "chunk_frames", "context", "seed")
        drawn = ("greedy", "temperature", "top_k", "repetition_penalty")
        return {
            "source": setup.source,
            "model": setup.model,
            "kind": self.kind,
            "device": setup.accelerator.device,
            "card": setup.accelerator.name,
            "dtype": setup.dtype,
            "graphs": setup.graphs,
            "duration_s": None if self.frames is None else self.frames * FRAME_S,
            "frames": self.frames,
            "text_tokens": self.text_tokens,
            "prompt_rows": len(self.prompt.rows),
            "reference_frames": len(request.reference_codes),
            "text_streaming": self.text_streaming,
            **{name: getattr(request, name) for name in fields + drawn},
            "adjustments": [asdict(adjustment) for adjustment in self.adjustments],
            "notes": list(self.notes),
        }


def resolve(request: Request, setup: Setup) -> Plan:
    """The plan of `request` on `setup`.

    Raises UsageError for a text of no tokens or too many and, when strict, for what is not done as it was
    asked; MissingPrerequisite for a recording that is no voice; CheckpointError for a folder without a
    vocabulary.
    """
    changes = Adjustments(setup.strict)
    size, kind = VARIANTS[setup.model]
    request = _known(request, setup.model, size, kind, changes)
    if kind == CUSTOM_VOICE and request.speaker is None:
        request = replace(request, speaker=DEFAULT_SPEAKER)
    if request.reference is not None:
        _check_recording(request.reference, changes)
    body = _tokens("text", setup.source, request.text) if request.text_ids is None else request.text_ids
    text_streaming = kind == BASE if request.text_streaming is None else request.text_streaming
    return Plan(
        setup=setup,
        request=request,
        prompt=layout(
            spoken(body),
            language=request.language,
            speaker=request.speaker,
            instruct=_instruction(request, setup.source),
            x_vector=kind == BASE,
            reference=_reference(request, setup.source),
            streaming=text_streaming,
        ),
        text_tokens=len(body),
        text_streaming=text_streaming,
        frames=None if request.duration_s is None else math.ceil(request.duration_s / FRAME_S - 1e-9),
        adjustments=tuple(changes),
        notes=(*not_held(setup.accelerator), *_notes(request, kind)),
    )


def _tokens(name: str, source: str, text: str) -> tuple[int, ...]:
    """Ids of a text. Raises UsageError, about `name`, where there are more than a prompt may have."""
    ids = tokens(source, text)
    if len(ids) > MAX_TEXT_IDS:
        raise UsageError(f"{name}: {len(ids):,} tokens are too many; use at most {MAX_TEXT_IDS:,}")
    return ids


def _check_recording(path: str, changes: Adjustments) -> None:
    """Note what is not listened to of a recording of a voice. Raises MissingPrerequisite for a short one."""
    there_s = heard_s("reference", path, LEAST_REFERENCE_S, MOST_REFERENCE_S, changes)
    if there_s > MOST_REFERENCE_S:
        first = f"its first {MOST_REFERENCE_S:g} s"
        reason, remedy = "is longer than what is listened to", "name a shorter recording"
        changes.note("reference", f"{path} of {there_s:.1f} s", first, reason, remedy=remedy)


def _instruction(request: Request, source: str) -> tuple[int, ...]:
    """How the text is to be said, if that is asked for."""
    return instruction(_tokens("instruct", source, request.instruct)) if request.instruct else ()


def _reference(request: Request, source: str) -> Reference | None:
    """The recording that a text goes on from, where its codes are given."""
    if not request.reference_codes:
        return None
    said = _tokens("reference_text", source, request.reference_text)
    return Reference(heard(said), request.reference_codes)


def _known(request: Request, model: str, size: str, kind: str, changes: Adjustments) -> Request:
    """The request without what `model` has no use for."""
    unused = {
        "instruct": (size == SMALL or kind == BASE, ""),
        "speaker": (kind != CUSTOM_VOICE, None),
        "reference": (kind != BASE, None),
        "reference_codes": (kind != BASE, ()),
    }
    for name, (idle, nothing) in unused.items():
        value = getattr(request, name)
        if idle and value != nothing:
            changes.note(name, value, None, f"has no use in {model}")
            unused_too = {"reference_text": ""} if name == "reference_codes" else {}
            request = replace(request, **{name: nothing}, **unused_too)
    return request


def _notes(request: Request, kind: str) -> Iterator[str]:
    if kind == BASE and request.reference is None:
        yield "reference: no recording of a voice is named; it is that of 3 s of noise"
    if kind == VOICE_DESIGN and not request.instruct:
        yield "instruct: no voice is described; the model chooses one"
    if request.context is not None:
        yield f"context: each piece is decoded with {request.context} frames before it; this is not exact"
