"""Talker and code predictor in MLX: mlx-lm's Qwen3 blocks with the weights of a source.

Codes are drawn by our sampler from logits that MLX has in the host's memory, so the likeliest are the same as
torch's. Imports mlx and mlx-lm (`pip install '.[mlx]'`).
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import mlx.nn as nn  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from mlx.utils import tree_flatten  # pyright: ignore[reportMissingImports]
from mlx_lm.models.base import create_attention_mask  # pyright: ignore[reportMissingImports]
from mlx_lm.models.cache import KVCache  # pyright: ignore[reportMissingImports]
from mlx_lm.models.qwen3 import ModelArgs, TransformerBlock  # pyright: ignore[reportMissingImports]
from torch import Tensor

from harness.nn.config import StackConfig
from harness.nn.folded import Read
from subjects.qwen3_tts.config import CodePredictorConfig, TalkerConfig
from subjects.qwen3_tts.sampling import FrameSampling


class Stack:
    """Blocks and a final norm. `read` finds the tensors below the stack's own name."""

    def __init__(self, config: StackConfig, read: Read):
        unused = {"vocab_size": 0, "tie_word_embeddings": True, "max_position_embeddings": 0}
        known = {name: getattr(config, name) for name in StackConfig.__struct_fields__}
        blocks = ModelArgs.from_dict({"model_type": "qwen3"} | unused | known)
        self.layers = [TransformerBlock(blocks) for _ in range(config.num_hidden_layers)]
        for index, layer in enumerate(self.layers):
            names = [name for name, _ in tree_flatten(layer.parameters())]
            layer.load_weights([(name, _array(read(f"layers.{index}.{name}"))) for name in names])
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.norm.weight = _array(read("norm.weight"))

    def caches(self) -> list[KVCache]:
        """An empty cache of each layer."""
        return [KVCache() for _ in self.layers]

    def __call__(self, x: mx.array, caches: list[KVCache] | None = None) -> mx.array:
        """Final hidden states `[B, S, H]` of rows `x [B, S, H]`, behind what `caches` hold."""
        layers = caches or [None] * len(self.layers)
        mask = create_attention_mask(x, layers[0])
        for layer, cache in zip(self.layers, layers, strict=True):
            x = layer(x, mask, cache)
        return self.norm(x)


class Talker:
    """The talker. `read` finds the tensors below `talker.`."""

    def __init__(self, config: TalkerConfig, read: Read):
        self.stack = Stack(config, lambda name: read(f"model.{name}"))
        self.codec_embedding = _array(read("model.codec_embedding.weight"))
        self.codec_head = _array(read("codec_head.weight"))
        self.text_embedding = _array(read("model.text_embedding.weight"))
        self._text = [
            (_array(read(f"text_projection.{layer}.weight")), _array(read(f"text_projection.{layer}.bias")))
            for layer in ("linear_fc1", "linear_fc2")
        ]

    def text(self, ids: Tensor) -> mx.array:
        """The text side `[..., H]` of token `ids [...]`."""
        (weight1, bias1), (weight2, bias2) = self._text
        hidden = nn.silu(self.text_embedding[mx.array(ids.numpy())] @ weight1.T + bias1)
        return hidden @ weight2.T + bias2

    def logits(self, hidden: mx.array) -> mx.array:
        """`[..., V]` of final hidden states `[..., H]`."""
        return hidden @ self.codec_head.T


class CodePredictor:
    """The code predictor. `read` finds the tensors below `talker.code_predictor.`."""

    def __init__(self, config: CodePredictorConfig, talker_width: int, read: Read):
        codes = range(config.num_code_groups - 1)
        self.config = config
        self.stack = Stack(config, lambda name: read(f"model.{name}"))
        self.tables = [_array(read(f"model.codec_embedding.{code}.weight")) for code in codes]
        self.heads = [_array(read(f"lm_head.{code}.weight")) for code in codes]
        self._projection = None
        if talker_width != config.hidden_size:
            names = [f"small_to_mtp_projection.{leaf}" for leaf in ("weight", "bias")]
            self._projection = [_array(read(name)) for name in names]

    def __call__(self, x: mx.array, caches: list[KVCache] | None = None) -> mx.array:
        """Final hidden states `[B, S, h]` of inputs `x [B, S, H]` of the talker's width."""
        if self._projection:
            weight, bias = self._projection
            x = x @ weight.T + bias
        return self.stack(x, caches)


def frames(
    talker: Talker,
    predictor: CodePredictor,
    rows: mx.array,
    trailing: mx.array,
    pad: mx.array,
    *,
    sampling: FrameSampling,
    stream: torch.Generator,
) -> Iterator[list[int]]:
    """Frames of one prompt without end, 16 codes each: `rows [S, H]`, `trailing [N, H]`, `pad [H]`."""
    groups, size = predictor.config.num_code_groups, predictor.config.vocab_size
    caches, seen, number = talker.stack.caches(), torch.zeros(1, size, dtype=torch.bool), 0
    hidden = talker.stack(rows[None], caches)[:, -1:]
    while True:
        draws = torch.rand(groups, 1, generator=stream)
        first = sampling.first.pick(_tensor(talker.logits(hidden)[:, 0, :size]), draws[0], seen)
        seen[0, first] = True
        codes, inside = [int(first)], predictor.stack.caches()
        row = talker.codec_embedding[codes[0]][None, None]
        x = mx.concatenate((hidden, row), axis=1)
        for index, (table, head) in enumerate(zip(predictor.tables, predictor.heads, strict=True), 1):
            logits = predictor(x, inside)[:, -1] @ head.T
            codes.append(int(sampling.others.pick(_tensor(logits), draws[index])))
            x = table[codes[-1]][None, None]
            row = row + x
        yield codes
        text = trailing[number] if number < len(trailing) else pad
        hidden, number = talker.stack(row + text, caches), number + 1


def _array(tensor: Tensor) -> mx.array:
    return mx.array(tensor)


def _tensor(array: mx.array) -> Tensor:
    """In MLX's own memory: no copy."""
    return torch.from_numpy(np.asarray(array.astype(mx.float32)))
