"""Decoder12Hz in MLX, in one pass: the folded weights of ours, arrays `[B, n, C]` with channels last.

Imports mlx (`pip install '.[mlx]'`).
"""

from __future__ import annotations

from functools import partial

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import mlx.nn as nn  # pyright: ignore[reportMissingImports]

from harness.checkpoint import on_meta
from harness.nn.folded import Read, fold
from subjects.qwen3_tts.config import DecoderConfig
from subjects.qwen3_tts.models import decoder
from subjects.qwen3_tts.models.decoder import DILATIONS


class Decoder:
    """`read` finds the tensors below `decoder.` in the codec's file, in fp32."""

    def __init__(self, config: DecoderConfig, read: Read):
        self.config = config
        ours = on_meta(lambda: decoder.Decoder(config))
        folded = partial(fold, ours, read=read)
        self._weights = {name: mx.array(folded(name)) for name, _ in ours.named_parameters()}

    def __call__(self, codes: mx.array) -> mx.array:
        """Waveforms `[B, 1920·T]` within ±1 of `codes [B, 16, T]`."""
        config, w = self.config, self._weights
        books = config.codebook_size * mx.arange(config.num_quantizers)
        x = w["quantizer.table"][codes.transpose(0, 2, 1) + books].sum(2)
        x = self._transformer(self._conv("pre_conv", x))
        for stage, ratio in enumerate(config.upsampling_ratios):
            x = self._upsampled(f"upsample.{stage}.0", x, ratio)
            x = self._conv_next(f"upsample.{stage}.1", x)
        x = self._conv("decoder.0", x)
        for block, rate in enumerate(config.upsample_rates, 1):
            name = f"decoder.{block}.block"
            x = self._upsampled(f"{name}.1", self._snake(f"{name}.0", x), rate)
            for unit, dilation in enumerate(DILATIONS, 2):
                y = self._conv(f"{name}.{unit}.conv1", self._snake(f"{name}.{unit}.act1", x), dilation)
                x = x + self._conv(f"{name}.{unit}.conv2", self._snake(f"{name}.{unit}.act2", y))
        last = len(config.upsample_rates) + 1
        x = self._conv(f"decoder.{last + 1}", self._snake(f"decoder.{last}", x))
        return mx.clip(x[..., 0], -1, 1)

    def _conv(self, name: str, x: mx.array, dilation: int = 1, groups: int = 1) -> mx.array:
        """A convolution that sees a column and those before it."""
        weight = self._weights[f"{name}.conv.weight"].transpose(0, 2, 1)
        x = mx.pad(x, [(0, 0), ((weight.shape[1] - 1) * dilation, 0), (0, 0)])
        return mx.conv1d(x, weight, dilation=dilation, groups=groups) + self._weights[f"{name}.conv.bias"]

    def _upsampled(self, name: str, x: mx.array, stride: int) -> mx.array:
        """Its outputs are `stride` places of each channel."""
        places = self._conv(name, x).reshape(len(x), x.shape[1], -1, stride)
        return places.transpose(0, 1, 3, 2).reshape(len(x), x.shape[1] * stride, -1)

    def _snake(self, name: str, x: mx.array) -> mx.array:
        frequency, gain = (self._weights[f"{name}.{part}"].reshape(-1) for part in ("frequency", "gain"))
        return x + mx.square(mx.sin(x * frequency)) * gain

    def _conv_next(self, name: str, x: mx.array) -> mx.array:
        w = self._weights
        y = self._conv(f"{name}.dwconv", x, groups=x.shape[-1])
        y = mx.fast.layer_norm(y, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"], 1e-6)
        y = self._linear(f"{name}.pwconv2", nn.gelu(self._linear(f"{name}.pwconv1", y)))
        return x + y * w[f"{name}.gamma"]

    def _linear(self, name: str, x: mx.array) -> mx.array:
        y, bias = x @ self._weights[f"{name}.weight"].T, self._weights.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _transformer(self, x: mx.array) -> mx.array:
        """A frame sees itself and the `sliding_window` - 1 before."""
        name, places = "pre_transformer", mx.arange(x.shape[1])
        distance = places[:, None] - places
        mask = (distance >= 0) & (distance < self.config.sliding_window)
        x = self._linear(f"{name}.input_proj", x)
        for layer in range(self.config.num_hidden_layers):
            x = self._layer(f"{name}.layers.{layer}", x, mask)
        return self._linear(f"{name}.output_proj", self._rms(f"{name}.norm", x))

    def _layer(self, name: str, x: mx.array, mask: mx.array) -> mx.array:
        attended = self._attention(f"{name}.self_attn", self._rms(f"{name}.input_layernorm", x), mask)
        x = x + attended * self._weights[f"{name}.self_attn_layer_scale.scale"]
        y = self._rms(f"{name}.post_attention_layernorm", x)
        gated = nn.silu(self._linear(f"{name}.mlp.gate_proj", y)) * self._linear(f"{name}.mlp.up_proj", y)
        scale = self._weights[f"{name}.mlp_layer_scale.scale"]
        return x + self._linear(f"{name}.mlp.down_proj", gated) * scale

    def _attention(self, name: str, x: mx.array, mask: mx.array) -> mx.array:
        d = self.config.head_dim
        q, k, v = (
            self._linear(f"{name}.{part}_proj", x).reshape(*x.shape[:2], -1, d).transpose(0, 2, 1, 3)
            for part in "qkv"
        )
        theta = self.config.rope_theta
        q, k = (mx.fast.rope(h, d, traditional=False, base=theta, scale=1.0, offset=0) for h in (q, k))
        seen = mx.fast.scaled_dot_product_attention(q, k, v, scale=d**-0.5, mask=mask)
        return self._linear(f"{name}.o_proj", seen.transpose(0, 2, 1, 3).flatten(2))

    def _rms(self, name: str, x: mx.array) -> mx.array:
        return mx.fast.rms_norm(x, self._weights[f"{name}.weight"], self.config.rms_norm_eps)
