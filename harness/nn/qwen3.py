"""Qwen3: the caption encoder, and the 5 Hz language model with its key/value cache.

Prefill and decode are the same forward over different shapes: many tokens at once is arithmetic,
one token is memory traffic (every weight is read for 2 FLOP per byte and row). The cache is
allocated once at its full length, so decoding never allocates it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.nn.blocks import Block, RMSNorm, causal, masked, rope_table, shared
from harness.nn.config import Qwen3Config


class Cache:
    """Keys and values `[L, R, m, slots, d]` of R rows: the token at position p of a row is in its slot p.

    What a query may see is then a comparison of positions, whatever the rows' lengths. The last slot
    belongs to no position: tokens that only pad a block go there.
    """

    def __init__(self, config: Qwen3Config, rows: int, length: int, dtype: torch.dtype, device: torch.device):
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, length + 1, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.padding = length


@contextmanager
def few_rows(rows: int) -> Iterator[None]:
    """Multiply one or two rows as fast as a CPU's memory gives the weights.

    oneDNN reads bf16 weights at half that speed, however few rows there are. torch's own kernel, which runs
    where oneDNN is off, reads them at all of it, but works through every row by itself: from the third on it
    is the slower one. Both add in fp32. The switch is the process's, and is put back.
    """
    was = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = was and rows > 2
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = was


class Qwen3(nn.Module):
    """Weights as published (without the optional `model.` prefix); the head is the token table."""

    def __init__(self, config: Qwen3Config):
        super().__init__()
        self.config = config
        # Given its weight: drawing one, even on the meta device, would import all of torch._dynamo.
        table = torch.empty(config.vocab_size, config.hidden_size)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, _weight=table)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Final hidden states `[B, S, H]` of `ids [B, S]`, causal, uncached."""
        x = self.embed_tokens(ids)
        rope = rope_table(torch.arange(ids.shape[1], device=ids.device), self.config, x.dtype)
        for layer in self.layers:
            x = layer(x, rope, causal)
        return self.norm(x)

    def extend(self, ids: Tensor, positions: Tensor, cache: Cache, rows: slice, end: int) -> Tensor:
        """Append `ids [R, S]` to cache `rows`; final hidden states of the last token `[R, H]`.

        `positions [R, S]` are each row's own, all below `end`, or `cache.padding` for a token that pads
        its row on the left. A token sees its row up to its own position.
        """
        x = self.embed_tokens(ids)
        cos, sin = rope_table(positions, self.config, x.dtype)
        rope = cos[:, None], sin[:, None]
        mask = torch.arange(end, device=ids.device) <= positions[:, None, :, None]
        row = torch.arange(len(ids), device=ids.device)[:, None]
        for index, layer in enumerate(self.layers):
            keys, values = cache.keys[index, rows], cache.values[index, rows]

            def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values):
                keys.transpose(1, 2)[row, positions] = k.transpose(1, 2)
                values.transpose(1, 2)[row, positions] = v.transpose(1, 2)
                seen = keys[:, :, :end], values[:, :, :end]
                if q.shape[2] == 1:
                    return shared(q, *seen, mask)
                return masked(q, *seen, mask)

            x = layer(x, rope, attend)
        return self.norm(x[:, -1])
