"""The code predictor: a small Qwen3 stack over the 16 positions of a frame, which draws its codes 1 to 15.

    position    0             1           2                 ...    15
    input       talker's h    codec(c0)   acoustic(1, c1)          acoustic(14, c14)
    head        -             of c1       of c2                    of c15

Every code but the first has a table, `acoustic`, and a head of its own. The tables have the talker's width;
where the predictor is narrower each input goes through one projection. For whole tables that is computed once
(`prepare`), so a frame projects only the talker's hidden state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.packed import Packed
from harness.nn.qwen3 import Cache, CausalStack, few_rows, table
from subjects.qwen3_tts.config import CodePredictorConfig


class Codebooks(Packed):
    """Embedding tables of as many codes, in one memory: all codes of a frame are one look-up."""

    def __init__(self, codes: int, vocabulary: int, width: int):
        super().__init__()
        self.joined = tuple(map(str, range(codes)))
        for name in self.joined:
            self.add_module(name, table(vocabulary, width))

    def forward(self, codes: Tensor) -> Tensor:
        """Rows `[..., n, H]` of `codes [..., n]`, each of its own table."""
        if self.packed is None:
            rows = [part(codes[..., place]) for place, part in enumerate(self.parts())]
            return torch.stack(rows, dim=-2)
        size = len(self.packed) // len(self.joined)
        return F.embedding(codes + torch.arange(0, len(self.packed), size, device=codes.device), self.packed)


class PredictorModel(CausalStack):
    """The tables and the stack."""

    def __init__(self, config: CodePredictorConfig, talker_width: int):
        super().__init__()
        self.codec_embedding = Codebooks(config.num_code_groups - 1, config.vocab_size, talker_width)
        self._stack(config)


class CodePredictor(nn.Module):
    """Weights as published, below `talker.code_predictor.`."""

    small_to_mtp_projection: nn.Linear | None

    def __init__(self, config: CodePredictorConfig, talker_width: int):
        super().__init__()
        self.config = config
        self.model = PredictorModel(config, talker_width)
        width, codes = config.hidden_size, config.num_code_groups - 1
        self.lm_head = nn.ModuleList(nn.Linear(width, config.vocab_size, bias=False) for _ in range(codes))
        self.small_to_mtp_projection = nn.Linear(talker_width, width) if talker_width != width else None
        self._inputs: list[Tensor] = []

    def prepare(self, codec: Tensor) -> None:
        """Project the tables of every input but the first, unless they are: at load, once for all frames.

        `codec [V, H]`: the talker's table. It takes 2·15·V·H·h FLOP where the widths H and h differ, and
        their memory; nothing where they do not.
        """
        if not self._inputs:
            tables = [codec[: self.config.vocab_size], *(part.weight for part in self._tables())]
            self._inputs = [self.project(weight) for weight in tables]

    def project(self, x: Tensor) -> Tensor:
        """Inputs `[..., H]` of the talker's width at the predictor's, `[..., h]`."""
        if self.small_to_mtp_projection is None:
            return x
        with few_rows(x.shape[:-1].numel()):
            return self.small_to_mtp_projection(x)

    def input(self, index: int, code: Tensor) -> Tensor:
        """The input `[B, h]` of codes number `index`, 0 to 14, `code [B]`. `prepare` comes before."""
        return F.embedding(code, self._inputs[index])

    def summed(self, first: Tensor, codes: Tensor) -> Tensor:
        """A frame as the talker's row `[..., H]`: `first [..., H]`, of code 0, and those of the others,
        `codes [..., 15]`, rounded once."""
        return torch.cat((first[..., None, :], self.model.codec_embedding(codes)), dim=-2).sum(-2)

    def logits(self, index: int, x: Tensor, cache: Cache) -> Tensor:
        """fp32 logits `[B, V]` of code `index`, 1 to 15, once `x [B, S, h]` is in the slots up to `index`.

        S is 2 for the first, 1 for the others.
        """
        with few_rows(x.shape[0] * x.shape[1]):
            hidden = self.model.append_at(x, index + 1 - x.shape[1], cache)
            return self.lm_head[index - 1](hidden).float()

    def forward(self, x: Tensor) -> Tensor:
        """Final hidden states `[B, S, h]` of inputs `x [B, S, H]`, uncached: the last is of code S - 1."""
        return self.model.uncached(self.project(x))

    def _tables(self) -> list[Any]:
        return self.model.codec_embedding.parts()[:-1]  # nothing follows the last code

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> CodePredictor:
        self._inputs = []
        return super()._apply(fn, recurse)
