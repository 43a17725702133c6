"""HuBERT base (arXiv:2106.07447): what is said, at 50 Hz, of a recording of 16 kHz.

    samples ─▶ 7 convolutions, 320 samples a frame ─▶ projection ─▶ + positions ─▶ 12 transformer layers

It can never be exact in chunks: the first norm is over all time, and every frame attends to every other.
RVC uses the weights of ContentVec (arXiv:2204.09224), which have this form.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.attend import full
from subjects.rvc.config import HubertConfig
from subjects.rvc.models.conv import BY_TAP, Conv


class TimeNorm(nn.Module):
    """Each channel of `x [B, n, C]` normalised over all time."""

    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        scale = (variance + self.eps).rsqrt_() * self.weight
        return torch.addcmul(self.bias - mean * scale, x, scale)


class ConvLayer(nn.Module):
    """Convolution without bias and GELU; the first has a norm between them."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: nn.Module | None = None):
        super().__init__()
        self.conv = Conv(channels, out, kernel, stride=stride, padding=0, bias=False)
        self.layer_norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.gelu(self.layer_norm(x) if self.layer_norm else x)


class FeatureExtractor(nn.Module):
    """Samples `[B, N, 1]` to frames `[B, H, C]`."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        width = config.conv_dim
        norm = TimeNorm(width, config.eps)
        self.conv_layers = nn.ModuleList(
            ConvLayer(width if index else 1, width, kernel, stride, None if index else norm)
            for index, (kernel, stride) in enumerate(zip(config.kernels, config.strides, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.conv_layers:
            x = layer(x)
        return x


class FeatureProjection(nn.Module):
    """`[B, H, C] -> [B, H, D]`."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.conv_dim, config.eps)
        self.projection = nn.Linear(config.conv_dim, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.layer_norm(x))


class Attention(nn.Module):
    """Plain heads over all frames `[B, H, D]`."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.hidden, config.hidden) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        projections = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in projections)
        return self.out_proj(full(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, config: HubertConfig):
        super().__init__()
        self.intermediate_dense = nn.Linear(config.hidden, config.intermediate)
        self.output_dense = nn.Linear(config.intermediate, config.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(F.gelu(self.intermediate_dense(x)))


class Layer(nn.Module):
    """Attention and MLP, each added to `x [B, H, D]` and the sum normalised (post-norm)."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNorm(config.hidden, config.eps)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden, config.eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(self.attention(x).add_(x))
        return self.final_layer_norm(self.feed_forward(x).add_(x))


class Positions(nn.Module):
    """What tells frames apart: a long convolution of groups of channels, and GELU."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        width, kernel, groups = config.hidden, config.position_kernel, config.position_groups
        self.conv = Conv(width, width, kernel, padding=kernel // 2, groups=groups, norm=BY_TAP)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.shape[1]  # an even kernel gives one more, which is dropped
        return F.gelu(self.conv(x)[:, :frames])


class Encoder(nn.Module):
    def __init__(self, config: HubertConfig):
        super().__init__()
        self.pos_conv_embed = Positions(config)
        self.layer_norm = nn.LayerNorm(config.hidden, config.eps)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, layers: int | None = None) -> Tensor:
        x = self.layer_norm(x + self.pos_conv_embed(x))
        for layer in self.layers[:layers]:
            x = layer(x)
        return x


class Hubert(nn.Module):
    """Weights as published for transformers' `HubertModel`."""

    def __init__(self, config: HubertConfig):
        super().__init__()
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden))  # of training
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Encoder(config)

    def forward(self, samples: Tensor, layers: int | None = None) -> Tensor:
        """Frames `[B, H, D]` of `samples [B, N]`, N >= 400, after the first `layers` layers, or all.

        H = (N - 400) // 320 + 1. Loudness matters: samples are taken as they are.
        """
        x = self.feature_projection(self.feature_extractor(samples[..., None]))
        return self.encoder(x, layers)
