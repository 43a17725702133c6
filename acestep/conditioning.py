"""From a request's words and codes to what the DiT attends to and what it fills in.

encode_text   caption -> text-encoder states; lyrics -> rows of its token table
encode        both and the timbre vector -> packed condition tokens, once for a whole batch
context       source latents (silence, or hints decoded from audio codes) and the mask of 1s
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from acestep.audio_codes import CODES
from acestep.lm.metadata import Metadata
from acestep.models.ace_step import AceStep
from acestep.models.qwen3 import Qwen3
from acestep.prompts import (
    CAPTION_LIMIT,
    LYRIC_LIMIT,
    caption_prompt,
    encoder_ids,
    lyric_prompt,
)
from acestep.request import GenerationParams
from acestep.tasks import instruction
from acestep.tokenizer import Tokenizer

FRAMES_PER_SECOND = 25
FRAMES_PER_CODE = 5
MIN_FRAMES = 128  # 5.12 s; shorter requests are padded to it and not trimmed back


@dataclass(frozen=True)
class EncodedText:
    """`caption [1, Nt, 1024]` states and `lyrics [1, Nl, 1024]` embeddings: one prompt, any batch."""

    caption: Tensor
    lyrics: Tensor


def latent_frames(duration_s: float) -> int:
    """Frames of a request: whole frames of the duration to a tenth of a second, at least 128."""
    samples = int(max(0.1, round(duration_s, 1)) * 48_000)
    return max(samples // 1920, MIN_FRAMES)


def encode_text(
    encoder: Qwen3, tokenizer: Tokenizer, params: GenerationParams, metadata: Metadata, from_codes: bool
) -> EncodedText:
    """Read caption and lyrics. A plan in codes makes the request a cover of that plan."""
    device = encoder.embed_tokens.weight.device
    sentence = instruction("cover" if from_codes else "text2music")
    caption = caption_prompt(sentence, metadata.caption or params.caption, metadata)
    lyrics = "[Instrumental]" if params.instrumental else params.lyrics
    words = lyric_prompt(metadata.language or params.vocal_language, lyrics)
    caption_ids = torch.tensor([encoder_ids(tokenizer, caption, CAPTION_LIMIT)], device=device)
    lyric_ids = torch.tensor([encoder_ids(tokenizer, words, LYRIC_LIMIT)], device=device)
    return EncodedText(encoder(caption_ids), encoder.embed_tokens(lyric_ids))


def encode(model: AceStep, text: EncodedText, timbre: Tensor) -> Tensor:
    """Packed condition tokens `[1, E, D]`; `timbre [1, D]` is the checkpoint's constant for silence."""
    tokens, _ = model.encoder(text.caption, None, text.lyrics, None, timbre)
    return tokens


def hints(model: AceStep, codes: Tensor) -> Tensor:
    """Latents `[B, 5n, 64]` that audio `codes [B, n]` stand for."""
    features = model.tokenizer.quantizer.decode(codes.clamp(max=CODES - 1))
    return model.detokenizer(features)


def context(silence: Tensor, frames: int, batch: int, hint: Tensor | None) -> Tensor:
    """`[B, T, 128]`: source latents and a mask of ones (1 = generate).

    `silence [1, 15000, 64]` is the source of text2music and what a hint too short is padded with;
    requests beyond its 600 s repeat it.
    """
    repeats = -(-frames // silence.shape[1])
    source = silence.repeat(1, repeats, 1)[:, :frames].expand(batch, -1, -1)
    if hint is not None:
        hint = hint[:, :frames]
        source = torch.cat((hint, source[:, : frames - hint.shape[1]]), dim=1)
    return F.pad(source, (0, source.shape[-1]), value=1.0)
