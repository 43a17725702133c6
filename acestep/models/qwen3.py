"""Qwen3: the caption encoder, and the 5 Hz language model with its key/value cache.

Prefill and decode are the same forward over different shapes: many tokens at once is arithmetic,
one token is memory traffic (every weight is read for 2 FLOP per byte and row). The cache is
allocated once at its full length, so decoding never allocates and shapes stay put.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from acestep.models.blocks import Block, RMSNorm, causal, rope_table
from acestep.models.configs import Qwen3Config


class Cache:
    """Keys and values `[L, R, m, slots, d]` of R rows, and which slots each row may see.

    Rows are written slot by slot together, whatever their own lengths: a row that ended early leaves
    a gap its mask hides, and RoPE runs on the row's own positions, so no row knows of the others.
    """

    def __init__(self, config: Qwen3Config, rows: int, slots: int, dtype: torch.dtype, device: torch.device):
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, slots, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.visible = torch.zeros(rows, slots, dtype=torch.bool, device=device)


class Qwen3(nn.Module):
    """Weights as published (without the optional `model.` prefix); the head is the token table."""

    def __init__(self, config: Qwen3Config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, ids: Tensor) -> Tensor:
        """Final hidden states `[B, S, H]` of `ids [B, S]`, causal, uncached."""
        x = self.embed_tokens(ids)
        rope = rope_table(torch.arange(ids.shape[1], device=ids.device), self.config, x.dtype)
        for layer in self.layers:
            x = layer(x, rope, causal)
        return self.norm(x)

    def extend(self, ids: Tensor, positions: Tensor, cache: Cache, rows: slice, slot: int) -> Tensor:
        """Append `ids [R, S]` to cache `rows` at `slot`; final hidden states of the last token `[R, H]`.

        `positions [R, S]` are each row's own. New tokens see their row's visible slots and, among
        themselves, those before them.
        """
        count = ids.shape[1]
        end = slot + count
        x = self.embed_tokens(ids)
        cos, sin = rope_table(positions, self.config, x.dtype)
        rope = cos[:, None], sin[:, None]
        cache.visible[rows, slot:end] = True
        mask = cache.visible[rows, None, None, :end]
        if count > 1:
            order = torch.ones(count, end, dtype=torch.bool, device=ids.device).tril(slot)
            mask = mask & order
        for index, layer in enumerate(self.layers):
            keys, values = cache.keys[index, rows], cache.values[index, rows]

            def attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor = keys, values: Tensor = values):
                keys[:, :, slot:end] = k
                values[:, :, slot:end] = v
                return F.scaled_dot_product_attention(
                    q, keys[:, :, :end], values[:, :, :end], attn_mask=mask, enable_gqa=True
                )

            x = layer(x, rope, attend)
        return self.norm(x[:, -1])
