"""The talker: a Qwen3 stack that draws the first code of each frame.

Each of its rows is a sum of two sides, of the same width:

    text side     text(id) = fc2(silu(fc1(text_embedding[id])))     a plain MLP, nothing gates it
    codec side    codec_embedding[id], codes below, control tokens and speakers above them

Its positions have three axes of one value each, which is plain RoPE.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.qwen3 import CausalStack, few_rows, table
from subjects.qwen3_tts.config import TalkerConfig


class TextProjection(nn.Module):
    """Text embeddings at the talker's width: `fc2(silu(fc1(x)))`."""

    def __init__(self, text_width: int, width: int):
        super().__init__()
        self.linear_fc1 = nn.Linear(text_width, text_width)
        self.linear_fc2 = nn.Linear(text_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_fc2(F.silu(self.linear_fc1(x)))


class TalkerModel(CausalStack):
    """Both tables and the stack."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        self.codec_embedding = table(config.vocab_size, config.hidden_size)
        self.text_embedding = table(config.text_vocab_size, config.text_hidden_size)
        self._stack(config)


class Talker(nn.Module):
    """Weights as published, below `talker.`."""

    def __init__(self, config: TalkerConfig):
        super().__init__()
        self.config = config
        self.model = TalkerModel(config)
        self.text_projection = TextProjection(config.text_hidden_size, config.hidden_size)
        self.codec_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def text(self, ids: Tensor) -> Tensor:
        """The text side `[..., H]` of token `ids [...]`."""
        return self.text_projection(self.model.text_embedding(ids))

    def codec(self, ids: Tensor) -> Tensor:
        """The codec side `[..., H]` of codes and control tokens `ids [...]`."""
        return self.model.codec_embedding(ids)

    def logits(self, hidden: Tensor, tokens: int) -> Tensor:
        """fp32 logits `[B, tokens]` of the first `tokens` of the codec side's, by final `hidden [B, H]`."""
        with few_rows(len(hidden)):
            return F.linear(hidden, self.codec_head.weight[:tokens]).float()

    def forward(self, x: Tensor) -> Tensor:
        """Final hidden states `[B, S, H]` of rows `x [B, S, H]`, causal, uncached."""
        return self.model.uncached(x)
