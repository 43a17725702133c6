"""The one transformer block, and the three ways attention looks at a sequence.

DiT, lyric and timbre encoders, pooler, detokenizer, text encoder and language model are all this
block: RMSNorm, grouped-query attention with normalised queries and keys, half-split RoPE, SwiGLU.
They differ only in what a query may see, which is a function handed in (`attend`):

    full    every key                          4·S²·A      FLOP for S tokens of attention width A
    Band    keys at distance <= window         4·3·window·S·A    (never an S x S mask; flash: 2·window)
                                               4·2·window·S·A    where none is ahead
    causal  keys at or before the query        language models; caches extend it

Shapes: B batch, S sequence, H hidden, n heads, m key/value heads, d head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.device import cuda_capability
from harness.nn.config import BlockConfig
from harness.nn.packed import Packed

Rope = tuple[Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` over the last axis, in fp32 or better, then in x's dtype.

    A CUDA card rounds once, after the weight; elsewhere x's dtype has the product as well, as in training.
    """

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if cuda_capability(x.device):
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        return F.rms_norm(x, x.shape[-1:], None, self.eps).mul_(self.weight)


def add_scaled(base: Tensor, x: Tensor, scale: Tensor) -> Tensor:
    """`base + x·scale`, which may use up `x`. On a CUDA card one operator, and rounded once."""
    if cuda_capability(x.device):
        return torch.addcmul(base, x, scale)
    return x.mul_(scale).add_(base)


def rope_table(positions: Tensor, config: BlockConfig, dtype: torch.dtype) -> Rope:
    """cos and sin `[..., d]` for integer `positions [...]`; angles in fp32 or better, then cast."""
    wide = torch.promote_types(dtype, torch.float32)
    exponent = torch.arange(0, config.head_dim, 2, dtype=wide, device=positions.device) / config.head_dim
    # One over the power, as in training: the power of minus rounds apart, by 5e-4 rad at 10 minutes.
    angles = positions.to(wide)[..., None] * (1 / config.rope_theta**exponent)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Apply RoPE to `x [B, heads, S, d]`: `x·cos + (-x2, x1)·sin` with x1, x2 the halves of d.

    On a CUDA card product and sum are one operator, and round once; compiled they are with what is around.
    """
    cos, sin = rope
    if torch.compiler.is_compiling():
        sign = torch.arange(-1, 2, 2, dtype=x.dtype, device=x.device)[:, None]
        swapped = x.unflatten(-1, (2, -1)).flip(-2) * sign
        return x * cos + swapped.flatten(-2) * sin
    rotated = x * cos
    (x1, x2), (sin1, sin2), (y1, y2) = (part.chunk(2, dim=-1) for part in (x, sin, rotated))
    if cuda_capability(x.device):
        y1.addcmul_(x2, sin1, value=-1)
        y2.addcmul_(x1, sin2)
    else:
        y1.sub_(x2 * sin1)
        y2.add_(x1 * sin2)
    return rotated


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
    """Attention over keys at or before the query."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


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


class Attention(Packed):
    """Grouped-query attention with RMS-normalised query and key heads, no biases."""

    joined = ("q_proj", "k_proj", "v_proj")

    def __init__(self, config: BlockConfig):
        super().__init__()
        width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_width, bias=False)
        self.o_proj = nn.Linear(width, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def query(self, x: Tensor) -> Tensor:
        """Normalised queries `[B, n, S, d]` of `x [B, S, H]`."""
        return self.q_norm(self.q_proj(x).unflatten(-1, (-1, self.head_dim))).transpose(1, 2)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised keys and values `[B, m, S, d]` of `x [B, S, H]`."""
        k = self.k_norm(self.k_proj(x).unflatten(-1, (-1, self.head_dim))).transpose(1, 2)
        return k, self.v_proj(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def output(self, heads: Tensor) -> Tensor:
        """Merge `[B, n, S, d]` back into the residual width `[B, S, H]`."""
        return self.o_proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """`x [B, S, H]` -> `[B, S, H]`.

        Eagerly queries and keys are normalised and turned together. Compiled, what is written into a part of
        a buffer is a kernel of its own, and each of the two is one from its product to where it is used.
        """
        if torch.compiler.is_compiling():
            q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in self.products(x))
            q, k = (rotate(norm(x).transpose(1, 2), rope) for norm, x in ((self.q_norm, q), (self.k_norm, k)))
            return self.output(attend(q, k, v.transpose(1, 2)))
        heads = self.product(x).unflatten(-1, (-1, self.head_dim))
        q, k = rotate(self._normed(heads).transpose(1, 2), rope).split(self.heads, dim=1)
        return self.output(attend(q, k, heads[:, :, -self.heads[1] :].transpose(1, 2)))

    def _normed(self, heads: Tensor) -> Tensor:
        """Normalised queries and keys `[B, S, n + m, d]` of `heads [B, S, n + 2·m, d]`.

        The card's kernel would first copy what is not all of its memory, so there the values go with it.
        """
        n, both = self.heads[0], sum(self.heads)
        if not cuda_capability(heads.device):
            heads = heads[:, :, :both]
        normed = F.rms_norm(heads, heads.shape[-1:], None, self.q_norm.eps)[:, :, :both]
        normed[:, :, :n].mul_(self.q_norm.weight)
        normed[:, :, n:].mul_(self.k_norm.weight)
        return normed


class MLP(Packed):
    """SwiGLU: `down(silu(gate(x)) * up(x))`."""

    joined = ("gate_proj", "up_proj")

    def __init__(self, hidden: int, intermediate: int):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, intermediate, bias=False)
        self.up_proj = nn.Linear(hidden, intermediate, bias=False)
        self.down_proj = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.products(x)
        return self.down_proj(F.silu(gate).mul_(up))


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream `[B, S, H]`."""

    def __init__(self, config: BlockConfig):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, rope: Rope, attend: Attend) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, attend)
        return x + self.mlp(self.post_attention_layernorm(x))
