"""Codes to audio: all at once, or piece by piece with the decoder's state, which is exact for any pieces.

whole(decoder, codes)                       one pass, or passes of 300 frames that go on from another
Pieces(decoder, batch, 4).next(codes)       the next frames' samples, of 4 frames by a recorded step
Pieces(decoder, batch, 4, context=25)       each with 25 frames before it decoded again: not exact
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.captured import Buffered
from harness.graphs import Graphs
from harness.spans import span
from subjects.qwen3_tts.config import FRAME_SAMPLES
from subjects.qwen3_tts.models.decoder import Decoder
from subjects.qwen3_tts.models.decoder_state import DecoderState

STAGE = "decode"
MOST_FRAMES = 300  # of one pass, whose memory grows with them


def whole(decoder: Decoder, codes: Tensor, context: int | None = None, skipped: int = 0) -> Tensor:
    """Audio `[B, 1920 (T - skipped)]` of `codes [B, 16, T]` behind the first, `skipped` ones.

    `context` as the published package does, None exact.
    """
    return _whole(decoder, codes, context)[:, skipped * FRAME_SAMPLES :]


def _whole(decoder: Decoder, codes: Tensor, context: int | None) -> Tensor:
    if codes.shape[-1] <= MOST_FRAMES:
        return decoder(codes)
    if context is not None:
        return decoder.chunked(codes, MOST_FRAMES, context)
    state = DecoderState(decoder, len(codes))
    return torch.cat([state.step(part) for part in codes.split(MOST_FRAMES, dim=-1)], dim=-1)


class Pieces:
    """Audio of frames as they come, for one utterance after another.

    `frames`: of the usual piece, whose step `graphs` records once it has run. `decoded`: how many frames it
    took, those decoded again included.
    """

    def __init__(
        self,
        decoder: Decoder,
        batch: int,
        frames: int,
        context: int | None = None,
        graphs: Graphs | None = None,
    ):
        self._decoder = decoder
        self._frames = frames
        self._context = context
        self._graphs = graphs or Graphs()
        self._state = DecoderState(decoder, batch) if context is None else None
        self._step: Buffered | None = None
        self.begin()

    def begin(self) -> None:
        """Back to the first frame."""
        self.decoded = 0
        self._before: Tensor | None = None  # the frames that are decoded again with the next
        if self._state is not None:
            self._state.reset()

    def next(self, codes: Tensor) -> Tensor:
        """Audio `[B, 1920 k]` of the next `codes [B, 16, k]`: a stage, and `compile` where it is recorded."""
        if self._state is None or not self._graphs.recording or codes.shape[-1] != self._frames:
            with span(STAGE):
                return self._again(codes) if self._state is None else self._stepped(self._state, codes)
        self.decoded += codes.shape[-1]
        new = self._step is None
        with span(STAGE):
            if self._step is None:
                samples = self._state.keys.new_empty(len(codes), codes.shape[-1] * FRAME_SAMPLES)
                self._step = Buffered(self._state.step, samples, codes)
            self._step.put(codes)
            self._graphs.run(STAGE, self._step)
            wave = self._step.taken()
        if new:
            with span("compile"):
                self._graphs.record(STAGE, self._step)
        return wave

    def _stepped(self, state: DecoderState, codes: Tensor) -> Tensor:
        self.decoded += codes.shape[-1]
        return state.step(codes)

    def _again(self, codes: Tensor) -> Tensor:
        before = codes[..., :0] if self._before is None else self._before
        known = torch.cat((before, codes), dim=-1)
        self._before = known[..., max(known.shape[-1] - (self._context or 0), 0) :]
        self.decoded += known.shape[-1]
        return self._decoder(known)[:, before.shape[-1] * FRAME_SAMPLES :]
