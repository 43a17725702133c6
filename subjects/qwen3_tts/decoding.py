"""Codes to audio: all at once, or piece by piece with the decoder's state, which is exact for any pieces.

whole(decoder, codes)                       one pass, or passes of 300 frames that go on from another
Pieces(decoder, batch).next(codes)          the next frames' samples
Pieces(decoder, batch, context=25)          each with 25 frames before it decoded again: not exact
"""

from __future__ import annotations

import torch
from torch import Tensor

from subjects.qwen3_tts.config import FRAME_SAMPLES
from subjects.qwen3_tts.models.decoder import Decoder
from subjects.qwen3_tts.models.decoder_state import DecoderState

MOST_FRAMES = 300  # of one pass, whose memory grows with them


def whole(decoder: Decoder, codes: Tensor, context: int | None = None) -> Tensor:
    """Audio `[B, 1920 T]` of `codes [B, 16, T]`; `context` as the published package does, None exact."""
    frames = codes.shape[-1]
    if frames <= MOST_FRAMES:
        return decoder(codes)
    if context is not None:
        return decoder.chunked(codes, MOST_FRAMES, context)
    pieces = Pieces(decoder, len(codes))
    return torch.cat([pieces.next(part) for part in codes.split(MOST_FRAMES, dim=-1)], dim=-1)


class Pieces:
    """Audio of frames as they come. `decoded`: how many frames it took, those decoded again included."""

    def __init__(self, decoder: Decoder, batch: int, context: int | None = None):
        self._decoder = decoder
        self._context = context
        self._state = DecoderState(decoder, batch) if context is None else None
        self._before: Tensor | None = None  # the frames that are decoded again with the next
        self.decoded = 0

    def next(self, codes: Tensor) -> Tensor:
        """Audio `[B, 1920 k]` of the next `codes [B, 16, k]`."""
        if self._state is not None:
            self.decoded += codes.shape[-1]
            return self._state.step(codes)
        before = codes[..., :0] if self._before is None else self._before
        known = torch.cat((before, codes), dim=-1)
        self._before = known[..., max(known.shape[-1] - (self._context or 0), 0) :]
        self.decoded += known.shape[-1]
        return self._decoder(known)[:, before.shape[-1] * FRAME_SAMPLES :]
