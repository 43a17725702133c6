"""What a query may see: attention as a function that a transformer's block is handed.

    full    every key                          4·S²·A      FLOP for S tokens of attention width A
    Band    keys at distance <= window         4·3·window·S·A    (never an S x S mask; flash: 2·window)
                                               4·2·window·S·A    where none is ahead
    causal  keys at or before the query        language models; caches extend it

Shapes: B batch, S queries, E keys, n heads, m key/value heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.device import cuda_capability

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def flash_serves(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a CUDA card's flash kernel takes these: it groups heads and knows windows, and no masks."""
    capability = cuda_capability(device)
    return capability is not None and capability >= (8, 0) and dtype in (torch.float16, torch.bfloat16)


def full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over every key: q `[B, n, S, d]`, k and v `[B, m, E, d]` -> `[B, n, S, d]`."""
    if flash_serves(q.device, q.dtype):
        return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    return shared(q, k, v, None)


def shared(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention in which all queries see the same keys: those of `mask [B, 1 or m, 1, E]`, or every one.

    The n/m heads that share a key head are then just more queries of it, so nothing is repeated and the
    plain kernels serve; for one query at a time that is, on a CPU, a sixth of the cost of the grouped form.
    With a mask of each key head these are a batch: fused kernels put heads side by side, here in order.
    """
    batch, heads, length, size = q.shape
    q = q.reshape(batch, k.shape[1], -1, size)
    if mask is not None and mask.shape[1] > 1:
        q, k, v, mask = (part.flatten(0, 1)[:, None] for part in (q, k, v, mask))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).reshape(batch, heads, length, size)


def masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention under `mask [B or 1, 1, S or 1, E]`, added to the scores or (bool) of the keys that are seen.

    On a CUDA card no fused kernel takes a mask and grouped heads, so the heads that share a key head become
    more queries of it, each with the mask's rows.
    """
    if cuda_capability(q.device) is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    rows = q.shape[1] // k.shape[1] if mask.shape[2] > 1 else 1
    return shared(q, k, v, mask.repeat(1, 1, rows, 1) if rows > 1 else mask)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention over keys at or before the query.

    A CUDA card whose flash kernel does not serve has a fused one for heads that are not grouped.
    """
    grouped = cuda_capability(q.device) is None or flash_serves(q.device, q.dtype)
    if not grouped:
        k, v = (heads.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for heads in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)


class Biased:
    """Attention with a bias `[B or 1, 1, S or 1, E]` added to the scores (see `hide`)."""

    def __init__(self, bias: Tensor):
        self.bias = bias

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return masked(q, k, v, self.bias)


def hide(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """The bias that hides keys where the bool `hidden` is set.

    It is the lowest finite number, as in training: a query with no key left averages over all of
    them, and never divides zero by zero.
    """
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return bias.masked_fill_(hidden, torch.finfo(dtype).min)


class Band:
    """Attention over keys at distance <= window, as blocks.

    Queries are cut into blocks of `window`; each block sees its own and both neighbouring blocks of
    keys, so the work is 3·window keys per query however long the sequence. The mask that trims
    3·window to the 2·window + 1 keys allowed is `[B·blocks, 1, window, 3·window]`, built once for the
    largest batch; fewer rows take the front of it. Without what is `ahead` of a query a block sees two.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        window: int,
        dtype: torch.dtype,
        device: torch.device,
        ahead: bool = True,
    ):
        self.window = window
        self.seen = 3 if ahead else 2
        self.blocks = blocks = -(-length // window)
        self.pad = blocks * window - length
        query = torch.arange(blocks * window, device=device).view(blocks, window, 1)
        key = torch.arange(self.seen * window, device=device) + window * (
            torch.arange(blocks, device=device).view(blocks, 1, 1) - 1
        )
        allowed = ((query - key).abs() <= window) & (key >= 0) & (key < length)
        if not ahead:
            allowed &= key <= query
        self.bias = hide(~allowed, dtype)[:, None].repeat(batch, 1, 1, 1)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, _, length, _ = q.shape
        bias = self.bias[: batch * self.blocks]
        out = masked(self._queries(q), self._keys(k), self._keys(v), bias)
        out = out.unflatten(0, (batch, self.blocks)).transpose(1, 2).flatten(2, 3)
        return out[:, :, :length]

    def _queries(self, q: Tensor) -> Tensor:
        q = F.pad(q, (0, 0, 0, self.pad)).unflatten(2, (self.blocks, self.window))
        return q.transpose(1, 2).flatten(0, 1)

    def _keys(self, k: Tensor) -> Tensor:
        k = F.pad(k, (0, 0, self.window, (self.seen - 2) * self.window + self.pad))
        k = k.unfold(2, self.seen * self.window, self.window)  # [B, m, blocks, d, seen·window]
        return k.permute(0, 2, 1, 4, 3).flatten(0, 1)


class FlashBand:
    """Attention over keys at distance <= window by the flash kernel, which skips what lies outside."""

    def __init__(self, window: int, ahead: bool = True):
        self.window = window
        self.ahead = window if ahead else 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (heads.transpose(1, 2) for heads in (q, k, v))
        # torch.nn.attention.varlen calls the same for sequences in a row; here they are of one length, and
        # importing it would import all of the compiler.
        results = torch.ops.aten._flash_attention_forward(
            *(q, k, v, None, None, q.shape[1], k.shape[1]),
            dropout_p=0.0,
            is_causal=False,
            return_debug_mask=False,
            window_size_left=self.window,
            window_size_right=self.ahead,
        )
        return results[0].transpose(1, 2)


def sliding(
    batch: int, length: int, window: int, dtype: torch.dtype, device: torch.device, ahead: bool = True
) -> Attend:
    """Attention over keys at distance <= window, or of these only those that are not `ahead` of the query.

    Plain `full` or `causal` where the window holds the sequence.
    """
    if length <= window + 1:
        return full if ahead else causal
    if flash_serves(device, dtype):
        return FlashBand(window, ahead)
    return Band(batch, length, window, dtype, device, ahead)
