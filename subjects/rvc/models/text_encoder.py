"""The synthesizer's text encoder: of what is said and of the pitch, a distribution of latents.

    phone, pitch in steps ─▶ sum ─▶ 6 transformer layers with relative positions ─▶ mean, log scale

It can never be exact in chunks: every frame attends to every other.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.qwen3 import table
from subjects.rvc.config import PITCH_STEPS, SynthesizerConfig
from subjects.rvc.models.conv import Conv

SLOPE = 0.1


class LayerNorm(nn.Module):
    """Over channels; `gamma` and `beta` are what others call weight and bias."""

    def __init__(self, size: int, eps: float = 1e-5):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(size))
        self.beta = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, self.eps)


class Attention(nn.Module):
    """Attention over all frames of `x [B, T, H]` with relative positions (arXiv:1803.02155).

    A distance of at most `window` frames has an embedding, which is added to the key and to the value; those
    farther away have none. Heads share them.
    """

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.heads, self.window = config.heads, config.window
        size, distances = config.hidden // config.heads, 2 * config.window + 1
        self.emb_rel_k = nn.Parameter(torch.empty(1, distances, size))
        self.emb_rel_v = nn.Parameter(torch.empty(1, distances, size))
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (
            Conv(config.hidden, config.hidden) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.conv_q(x), self.conv_k(x), self.conv_v(x))
        )
        q = q / math.sqrt(q.shape[-1])
        # `window` keys more at either end, which nobody sees, so that every frame has all distances.
        k, v = (F.pad(heads, (0, 0, self.window, self.window)) for heads in (k, v))
        scores = q @ k.transpose(-1, -2)  # [B, heads, T, window + T + window]
        self._band(scores).add_(q @ self.emb_rel_k[0].T)
        for end in (scores[..., : self.window], scores[..., scores.shape[-1] - self.window :]):
            end.fill_(-math.inf)
        shares = scores.softmax(-1)
        heads = (shares @ v).add_(self._band(shares) @ self.emb_rel_v[0])
        return self.conv_o(heads.transpose(1, 2).flatten(2))

    def _band(self, scores: Tensor) -> Tensor:
        """The view `[B, heads, T, 2·window + 1]` of each frame's keys by their distance.

        A row of it begins one column farther right than the row before.
        """
        rows = scores.view(*scores.shape[:2], -1)  # one behind the other, in place
        return rows.unfold(-1, 2 * self.window + 1, scores.shape[-1] + 1)


class FeedForward(nn.Module):
    """Two convolutions and ReLU, `[B, T, H] -> [B, T, H]`."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.conv_1 = Conv(config.hidden, config.filter, config.kernel)
        self.conv_2 = Conv(config.filter, config.hidden, config.kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_2(self.conv_1(x).relu_())


class Encoder(nn.Module):
    """Attention and convolutions, each added to `x [B, T, H]` and the sum normalised."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        layers = range(config.layers)
        self.attn_layers = nn.ModuleList(Attention(config) for _ in layers)
        self.norm_layers_1 = nn.ModuleList(LayerNorm(config.hidden) for _ in layers)
        self.ffn_layers = nn.ModuleList(FeedForward(config) for _ in layers)
        self.norm_layers_2 = nn.ModuleList(LayerNorm(config.hidden) for _ in layers)

    def forward(self, x: Tensor) -> Tensor:
        layers = self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2
        for attention, norm_1, feed_forward, norm_2 in zip(*layers, strict=True):
            x = norm_1(attention(x).add_(x))
            x = norm_2(feed_forward(x).add_(x))
        return x


class TextEncoder(nn.Module):
    """Weights as published below `enc_p.`."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.scale = math.sqrt(config.hidden)
        self.emb_phone = nn.Linear(config.phone, config.hidden)
        self.emb_pitch = table(PITCH_STEPS, config.hidden)
        self.encoder = Encoder(config)
        self.proj = Conv(config.hidden, 2 * config.inter)

    def forward(self, phone: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of scales, each `[B, T, inter]`.

        Of `phone [B, T, 768]` and `pitch [B, T]`, int64; the items of a batch are of one length.
        """
        x = (self.emb_phone(phone) + self.emb_pitch(pitch)).mul_(self.scale)
        x = self.encoder(F.leaky_relu_(x, SLOPE))
        mean, log_scale = self.proj(x).chunk(2, dim=-1)
        return mean, log_scale
