"""Qwen3: a causal stack of blocks with its key/value cache, and over a token table a language model.

Prefill and decode are the same forward over different shapes: many tokens at once is arithmetic,
one token is memory traffic (every weight is read for 2 FLOP per byte and row). The cache is
allocated once at its full length, so decoding never allocates it again: a step is a function of fixed
buffers, and where it writes is a position on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harness.device import cuda_capability
from harness.nn.attend import Attend, causal, full, hide, masked, shared
from harness.nn.blocks import Block, RMSNorm, Rope, rope_table
from harness.nn.config import Qwen3Config, StackConfig

# Slots of the cache that attention on a card takes at a time, so that steps of a block are alike. Of 0.6B a
# block is 29 MB per row: the half of it that is read in vain is 1 % of a step, and 1,280 tokens are five
# blocks to record. A CPU records nothing, and reads what there is.
BLOCK = 256


def block_of(device: torch.device) -> int:
    """Slots that a step's attention takes at a time on `device`."""
    return 1 if device.type == "cpu" else BLOCK


class Cache:
    """Keys and values `[L, R, m, slots, d]` of R rows: the token at position p of a row is in its slot p.

    What a query may see is then a comparison of positions, whatever the rows' lengths. The last slot
    belongs to no position: tokens that only pad a block go there. `rope`: the table of all slots.
    """

    def __init__(self, config: StackConfig, rows: int, length: int, dtype: torch.dtype, device: torch.device):
        shape = (config.num_hidden_layers, rows, config.num_key_value_heads, length + 1, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.padding = length
        self.rope = rope_table(torch.arange(length + 1, device=device), config, dtype)


class CachedAttention:
    """Attention of new tokens over one layer's cache, into which their keys and values go first.

    `keys`, `values [R, m, slots, d]` have every slot; `row [R, 1]` and `positions [R, S]` say where the
    tokens go, and `bias [R, 1 or m, S, E]` hides what they may not see of the first E slots: no others are
    read.
    """

    def __init__(self, keys: Tensor, values: Tensor, row: Tensor, positions: Tensor, bias: Tensor):
        self.keys = keys
        self.values = values
        self.row = row
        self.positions = positions
        self.bias = bias

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        self.keys.transpose(1, 2)[self.row, self.positions] = k.transpose(1, 2)
        self.values.transpose(1, 2)[self.row, self.positions] = v.transpose(1, 2)
        end = self.bias.shape[-1]
        seen = self.keys[:, :, :end], self.values[:, :, :end]
        if q.shape[2] == 1:
            return shared(q, *seen, self.bias)
        return masked(q, *seen, self.bias)


class SlicedAttention:
    """Attention of new tokens whose slots the host knows, the same in every row: from `start` on.

    Where several come they are the first, each of which sees those up to itself; one sees all that are there.
    """

    def __init__(self, keys: Tensor, values: Tensor, start: int):
        self.keys = keys
        self.values = values
        self.start = start

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        end = self.start + q.shape[2]
        self.keys[:, :, self.start : end] = k
        self.values[:, :, self.start : end] = v
        if self.start == 0:
            return causal(q, k, v)
        return full(q, self.keys[:, :, :end], self.values[:, :, :end])


# How a layer is run: eagerly, or as it was compiled.
RunLayer = Callable[[nn.Module, Tensor, Rope, CachedAttention], Tensor]


def eagerly(layer: nn.Module, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
    """Run `layer` itself, also where it has been compiled."""
    return layer.forward(x, rope, attend)


@contextmanager
def few_rows(rows: int) -> Iterator[None]:
    """Multiply one or two rows at the speed of torch's own kernel on a CPU, which runs where oneDNN is off.

    It reads bf16 weights twice as fast as oneDNN, a core as fast from its cache as from memory: arithmetic
    is its bound. But it works through every row by itself: from the third on it is the slower one. Both add
    in fp32. The switch is the process's, and is put back.
    """
    was = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = was and rows > 2
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = was


def as_compiled(layer: nn.Module, x: Tensor, rope: Rope, attend: CachedAttention) -> Tensor:
    """Run `layer` as it has been compiled, once for caches of every length."""
    for heads in (attend.keys, attend.values):
        torch._dynamo.mark_dynamic(heads, 2)
    torch._dynamo.mark_dynamic(attend.bias, 3)
    return layer(x, rope, attend)


class CausalStack(nn.Module):
    """Blocks and a final norm, over rows of any kind: embeddings of tokens, or sums of several."""

    config: StackConfig
    layers: nn.ModuleList
    norm: RMSNorm

    def _stack(self, config: StackConfig) -> None:
        """Register the blocks and the norm: in this order, after what a subclass has before them."""
        self.config = config
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def uncached(self, x: Tensor) -> Tensor:
        """Final hidden states `[B, S, H]` of rows `x [B, S, H]`, causal."""
        rope = rope_table(torch.arange(x.shape[1], device=x.device), self.config, x.dtype)
        for layer in self.layers:
            x = layer(x, rope, causal)
        return self.norm(x)

    def append(
        self, x: Tensor, positions: Tensor, cache: Cache, rows: slice, end: int, run: RunLayer = eagerly
    ) -> Tensor:
        """Append `x [R, S, H]` to cache `rows`; final hidden states of the last of each `[R, H]`.

        `positions [R, S]` are each row's own, all below `end`, or `cache.padding` for what pads its row on
        the left. A token sees its row up to its own position; slots from `end` on are not read.
        """
        cos, sin = cache.rope
        rope = cos[positions][:, None], sin[positions][:, None]
        hidden = torch.arange(end, device=x.device) > positions[:, None, :, None]
        if x.shape[1] == 1 and cuda_capability(x.device):
            hidden = hidden.expand(-1, self.config.num_key_value_heads, -1, -1)  # see `shared`
        bias = hide(hidden, x.dtype)
        row = torch.arange(len(x), device=x.device)[:, None]
        for index, layer in enumerate(self.layers):
            keys, values = cache.keys[index, rows], cache.values[index, rows]
            x = run(layer, x, rope, CachedAttention(keys, values, row, positions, bias))
        return self.norm(x[:, -1])

    def append_at(self, x: Tensor, start: int, cache: Cache, rows: slice = slice(None)) -> Tensor:
        """Append `x [R, S, H]` to cache `rows`, at slots `start` to `start` + S of each; see `append`.

        S is 1 unless `start` is 0: the beginning of a prompt, or a pass that is known beforehand.
        """
        cos, sin = cache.rope
        rope = cos[start : start + x.shape[1]], sin[start : start + x.shape[1]]
        for index, layer in enumerate(self.layers):
            keys, values = cache.keys[index, rows], cache.values[index, rows]
            x = eagerly(layer, x, rope, SlicedAttention(keys, values, start))
        return self.norm(x[:, -1])


class Qwen3(CausalStack):
    """Weights as published (without the optional `model.` prefix); the head is the token table."""

    def __init__(self, config: Qwen3Config):
        super().__init__()
        self.embed_tokens = table(config.vocab_size, config.hidden_size)
        self._stack(config)

    def forward(self, ids: Tensor) -> Tensor:
        """Final hidden states `[B, S, H]` of `ids [B, S]`, causal, uncached."""
        return self.uncached(self.embed_tokens(ids))

    def extend(
        self, ids: Tensor, positions: Tensor, cache: Cache, rows: slice, end: int, run: RunLayer = eagerly
    ) -> Tensor:
        """Append tokens `ids [R, S]`; see `append`."""
        return self.append(self.embed_tokens(ids), positions, cache, rows, end, run)

    def begin(self, ids: Tensor, cache: Cache, rows: slice) -> Tensor:
        """Put tokens `ids [R, S]` first into cache `rows`; see `append_at`."""
        return self.append_at(self.embed_tokens(ids), 0, cache, rows)


def table(rows: int, width: int) -> nn.Embedding:
    """An embedding `[rows, width]` with its weight: drawing one, even on the meta device, would import all of
    torch._dynamo."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))
