"""Text conditioning: caption, lyrics and metadata of a request to the condition tokens of the DiT.

encode_text   caption -> text-encoder states; lyrics -> rows of its token table
encode        both and the timbre vectors -> packed condition tokens, once for a whole batch
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.models.ace_step import AceStep
from acestep.text.metadata import Metadata
from acestep.text.prompts import (
    CAPTION_LIMIT,
    LYRIC_LIMIT,
    bounded_caption,
    caption_prompt,
    encoder_ids,
    lyric_prompt,
)
from acestep.text.tokenizer import Tokenizer
from harness.nn.qwen3 import Qwen3
from harness.residency import brought


@dataclass(frozen=True)
class EncodedText:
    """`caption [1, Nt, 1024]` states and `lyrics [1, Nl, 1024]` embeddings: one prompt, any batch."""

    caption: Tensor
    lyrics: Tensor

    def on(self, device: torch.device) -> EncodedText:
        """The same on `device`."""
        return EncodedText(*brought(device, self.caption, self.lyrics))


def encode_text(
    encoder: Qwen3,
    tokenizer: Tokenizer,
    *,
    instruction: str,
    caption: str,
    lyrics: str,
    language: str,
    metadata: Metadata,
) -> EncodedText:
    """Text states and lyric embeddings of a request.

    `instruction` is the task's instruction; of `metadata` the four metas are read. What is too long is cut:
    of the caption branch the caption, never the metas; of the lyric branch the end.

    The lyrics' context is the lyric encoder's work: here they are looked up, not understood.
    """
    device = encoder.embed_tokens.weight.device
    caption = bounded_caption(tokenizer, instruction, caption, metadata)
    caption_ids = encoder_ids(tokenizer, caption_prompt(instruction, caption, metadata), CAPTION_LIMIT)
    lyric_ids = encoder_ids(tokenizer, lyric_prompt(language, lyrics), LYRIC_LIMIT)
    return EncodedText(
        encoder(torch.tensor([caption_ids], device=device)),
        encoder.embed_tokens(torch.tensor([lyric_ids], device=device)),
    )


def encode(model: AceStep, text: EncodedText, timbre: Tensor) -> Tensor:
    """Packed condition tokens `[1, E, D]`; `timbre [1, N, D]` has one vector per reference clip, or the
    checkpoint's constant for silence."""
    tokens, _ = model.encoder(text.caption, None, text.lyrics, None, timbre)
    return tokens
