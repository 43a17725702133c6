"""The one transformer block.

DiT, lyric and timbre encoders, pooler, detokenizer, text encoder and language model are all this
block: RMSNorm, grouped-query attention with normalised queries and keys, half-split RoPE, SwiGLU.
They differ only in what a query may see, which is a function handed in (`harness.nn.attend`).

Shapes: B batch, S sequence, H hidden, n heads, m key/value heads, d head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.device import cuda_capability
from harness.nn.attend import Attend
from harness.nn.config import BlockConfig
from harness.nn.packed import Packed

Rope = tuple[Tensor, Tensor]


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
