"""HuBERT in MLX. Imports mlx (`pip install '.[mlx]'`)."""

from __future__ import annotations

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import mlx.nn as nn  # pyright: ignore[reportMissingImports]

from subjects.rvc.backends.mlx_ops import Weights, conv, linear
from subjects.rvc.config import HubertConfig

ROWS = 256  # summed at once, so that long sums stay exact in fp32


class Hubert:
    """`weights`: those of `models.hubert.Hubert`, weight norm folded."""

    def __init__(self, config: HubertConfig, weights: Weights):
        self.config = config
        self._weights = weights

    def __call__(self, samples: mx.array, layers: int | None = None) -> mx.array:
        """Frames `[B, H, D]` of `samples [B, N]`, N >= 400, after the first `layers` layers, or all."""
        config, x = self.config, samples[..., None]
        for index, stride in enumerate(config.strides):
            name = f"feature_extractor.conv_layers.{index}"
            x = conv(x, self._weights[f"{name}.conv.weight"], stride=stride)
            x = nn.gelu(x if index else self._time_norm(f"{name}.layer_norm", x))
        x = self._linear("feature_projection.projection", self._norm("feature_projection.layer_norm", x))
        x = self._norm("encoder.layer_norm", x + self._positions(x))
        for layer in range(config.layers if layers is None else layers):
            x = self._layer(f"encoder.layers.{layer}", x)
        return x

    def _time_norm(self, name: str, x: mx.array) -> mx.array:
        """Each channel normalised over all time."""
        centred = x - _mean(x)
        scale = mx.rsqrt(_mean(mx.square(centred)) + self.config.eps)
        return centred * (scale * self._weights[f"{name}.weight"]) + self._weights[f"{name}.bias"]

    def _positions(self, x: mx.array) -> mx.array:
        name, config = "encoder.pos_conv_embed.conv", self.config
        padding, groups = config.position_kernel // 2, config.position_groups
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        y = conv(x, weight, bias, padding=padding, groups=groups)
        return nn.gelu(y[:, : x.shape[1]])

    def _layer(self, name: str, x: mx.array) -> mx.array:
        x = self._norm(f"{name}.layer_norm", x + self._attention(f"{name}.attention", x))
        y = nn.gelu(self._linear(f"{name}.feed_forward.intermediate_dense", x))
        return self._norm(
            f"{name}.final_layer_norm", x + self._linear(f"{name}.feed_forward.output_dense", y)
        )

    def _attention(self, name: str, x: mx.array) -> mx.array:
        q, k, v = (
            self._linear(f"{name}.{part}_proj", x)
            .reshape(*x.shape[:2], self.config.heads, -1)
            .transpose(0, 2, 1, 3)
            for part in "qkv"
        )
        seen = mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5)
        return self._linear(f"{name}.out_proj", seen.transpose(0, 2, 1, 3).flatten(2))

    def _norm(self, name: str, x: mx.array) -> mx.array:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return mx.fast.layer_norm(x, weight, bias, self.config.eps)

    def _linear(self, name: str, x: mx.array) -> mx.array:
        return linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


def _mean(x: mx.array) -> mx.array:
    """Over time: `[B, n, C] -> [B, 1, C]`."""
    batch, length, channels = x.shape
    rows = mx.pad(x, [(0, 0), (0, -length % ROWS), (0, 0)]).reshape(batch, -1, ROWS, channels)
    return rows.sum(2).sum(1, keepdims=True) / length
