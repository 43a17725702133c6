"""How the work of an utterance is spread over its stages, in arbitrary units: for the time left.

No torch import here.
"""

from __future__ import annotations

from harness.progress import Part
from subjects.qwen3_tts.plan import Plan

DECODE_SHARE = 0.05  # of a frame's time: what decoding it takes, of the 0.6B on two cores


def parts(plan: Plan) -> tuple[Part, ...]:
    """The frames and their decoding; nothing where the model ends by itself."""
    if plan.frames is None:
        return ()
    turns = "sampling", "code_predictor"
    frames = Part("talker_decode", plan.frames, times=plan.frames - 1, beside=turns)  # not before the first
    return frames, Part("decode", DECODE_SHARE * plan.frames)
