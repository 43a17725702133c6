"""Streaming with Decoder12Hz: what a step keeps, so that the next goes on as if nothing had been cut.

A causal layer needs of the past only what it reaches. Kept are the keys and values of the last 71 frames in
each layer of the transformer, and the last (k - 1)·dilation columns of each convolution's input: 1,298,496
values for an item of a batch, 5.2 MB in fp32. So chunks of any size give what one pass gives, for its work.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from harness.nn.attend import Attend, hide, masked
from harness.nn.blocks import Rope, rope_table
from subjects.qwen3_tts.models.causal import CausalConv
from subjects.qwen3_tts.models.decoder import Decoder


class DecoderState:
    """A stream of `batch` items through a decoder, from their first frame on.

    A step is a function of fixed buffers: of one size, it can be recorded and replayed. Keys are turned by
    their absolute positions, which are counted on the device.
    """

    def __init__(self, decoder: Decoder, batch: int):
        self._decoder, config = decoder, decoder.config
        weight = decoder.pre_conv.conv.weight
        heads = config.num_hidden_layers, batch, config.num_key_value_heads
        self.keys = weight.new_zeros(*heads, config.sliding_window - 1, config.head_dim)
        self.values = torch.zeros_like(self.keys)
        self.tails = {
            layer: weight.new_zeros(batch, layer.conv.in_channels, layer.reach)
            for layer in decoder.modules()
            if isinstance(layer, CausalConv) and layer.reach
        }
        self.position = torch.zeros(1, dtype=torch.int64, device=weight.device)  # of the next frame

    def step(self, codes: Tensor) -> Tensor:
        """Samples `[B, 1920·k]` of the next frames, whose codes are `[B, 16, k]`, int64."""
        samples = self._decoder(codes, self)
        self.position += codes.shape[-1]
        return samples

    def reset(self) -> None:
        """Back to the first frame, in the same buffers."""
        for buffer in (*self.buffers, self.position):
            buffer.zero_()

    @property
    def buffers(self) -> tuple[Tensor, ...]:
        """All that is kept of the past, but where it ends."""
        return (self.keys, self.values, *self.tails.values())

    def joined(self, layer: CausalConv, x: Tensor) -> Tensor:
        tail = self.tails[layer]
        x = torch.cat((tail, x), dim=-1)
        tail.copy_(x[..., -layer.reach :])
        return x

    def attention(self, x: Tensor) -> tuple[Rope, Iterable[Attend]]:
        before = self.keys.shape[3]
        keys = self.position + torch.arange(-before, x.shape[1], device=x.device)
        queries = keys[before:]
        distance = queries[:, None] - keys
        bias = hide((distance < 0) | (distance > before) | (keys < 0), x.dtype)[None, None]
        rope = rope_table(queries, self._decoder.config, x.dtype)
        return rope, (KeptAttention(*layer, bias) for layer in zip(self.keys, self.values, strict=True))


class KeptAttention:
    """Attention of new frames over the kept ones and themselves, of which the last are kept.

    `keys`, `values [B, m, kept, d]`; `bias [1, 1, n, kept + n]` hides what a new frame may not see.
    """

    def __init__(self, keys: Tensor, values: Tensor, bias: Tensor):
        self.keys = keys
        self.values = values
        self.bias = bias

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return masked(q, _kept(self.keys, k), _kept(self.values, v), self.bias)


def _kept(kept: Tensor, new: Tensor) -> Tensor:
    """`kept` and `new` in a row; the last of these are the kept ones from now on."""
    both = torch.cat((kept, new), dim=2)
    kept.copy_(both[:, :, -kept.shape[2] :])
    return both
