"""RVC's text encoder, flow and generator in MLX. Imports mlx (`pip install '.[mlx]'`)."""

from __future__ import annotations

import math

import mlx.core as mx  # pyright: ignore[reportMissingImports]

from subjects.rvc.backends.mlx_ops import Upsampling, Weights, conv, linear
from subjects.rvc.closed_form import ENDS_KERNEL
from subjects.rvc.config import SynthesizerConfig
from subjects.rvc.models.generator import LAST_SLOPE, SLOPE


class TextEncoder:
    """`weights`: those of `models.text_encoder.TextEncoder`."""

    def __init__(self, config: SynthesizerConfig, weights: Weights):
        self.config = config
        self._weights = weights

    def __call__(self, phone: mx.array, pitch: mx.array) -> tuple[mx.array, mx.array]:
        """Means and logarithms of scales, each `[B, T, inter]`, of `phone [B, T, 768]` and `pitch [B, T]`."""
        w = self._weights
        x = linear(phone, w["emb_phone.weight"], w["emb_phone.bias"]) + w["emb_pitch.weight"][pitch]
        x = _leaky(x * math.sqrt(self.config.hidden), SLOPE)
        for layer in range(self.config.layers):
            x = self._norm(f"encoder.norm_layers_1.{layer}", x + self._attention(layer, x))
            x = self._norm(f"encoder.norm_layers_2.{layer}", x + self._feed_forward(layer, x))
        mean, log_scale = mx.split(_conv(w, "proj", x), 2, axis=-1)
        return mean, log_scale

    def _attention(self, layer: int, x: mx.array) -> mx.array:
        name, w = f"encoder.attn_layers.{layer}", self._weights
        q, k, v = (
            _conv(w, f"{name}.conv_{part}", x)
            .reshape(*x.shape[:2], self.config.heads, -1)
            .transpose(0, 2, 1, 3)
            for part in "qkv"
        )
        q = q / math.sqrt(q.shape[-1])
        near = self._from_band(q @ w[f"{name}.emb_rel_k"][0].T)
        shares = mx.softmax(q @ k.transpose(0, 1, 3, 2) + near, axis=-1)
        heads = shares @ v + self._to_band(shares) @ w[f"{name}.emb_rel_v"][0]
        return _conv(w, f"{name}.conv_o", heads.transpose(0, 2, 1, 3).flatten(2))

    def _from_band(self, band: mx.array) -> mx.array:
        """Scores `[B, heads, T, T]` of `band [B, heads, T, 2·window + 1]`, by distance; 0 farther away.

        Rows of one column more, read as if they had none, begin each a column farther right.
        """
        *outer, frames, distances = band.shape
        width = frames + 2 * self.config.window
        rows = mx.pad(band, [(0, 0)] * 3 + [(0, width + 1 - distances)]).flatten(-2)
        rows = rows[..., : frames * width].reshape(*outer, frames, width)
        return rows[..., self.config.window : self.config.window + frames]

    def _to_band(self, shares: mx.array) -> mx.array:
        """The other way."""
        *outer, frames, _ = shares.shape
        window = self.config.window
        rows = mx.pad(shares, [(0, 0)] * 3 + [(window, window)]).flatten(-2)
        rows = mx.pad(rows, [(0, 0)] * 2 + [(0, frames)]).reshape(*outer, frames, -1)
        return rows[..., : 2 * window + 1]

    def _feed_forward(self, layer: int, x: mx.array) -> mx.array:
        name = f"encoder.ffn_layers.{layer}"
        hidden = mx.maximum(_conv(self._weights, f"{name}.conv_1", x), 0)
        return _conv(self._weights, f"{name}.conv_2", hidden)

    def _norm(self, name: str, x: mx.array) -> mx.array:
        gamma, beta = self._weights[f"{name}.gamma"], self._weights[f"{name}.beta"]
        return mx.fast.layer_norm(x, gamma, beta, 1e-5)


class Flow:
    """`weights`: those of `models.flow.Flow`, weight norm folded."""

    def __init__(self, config: SynthesizerConfig, weights: Weights):
        self.config = config
        self._weights = weights

    def __call__(self, z: mx.array, g: mx.array) -> mx.array:
        """Latents `[B, T, C]` of the speaker `g [B, 1, G]`, of `z [B, T, C]`."""
        for index in reversed(range(self.config.flows)):
            first, second = mx.split(z[..., ::-1], 2, axis=-1)
            z = mx.concatenate((first, second - self._shift(f"flows.{2 * index}", first, g)), axis=-1)
        return z

    def _shift(self, name: str, first: mx.array, g: mx.array) -> mx.array:
        """What a WaveNet makes of the first half."""
        w, layers, width = self._weights, self.config.flow_layers, self.config.hidden
        moves = mx.split(_conv(w, f"{name}.enc.cond_layer", g), layers, axis=-1)
        x, total = _conv(w, f"{name}.pre", first), mx.zeros(())
        for layer, move in enumerate(moves):
            value, gate = mx.split(_conv(w, f"{name}.enc.in_layers.{layer}", x) + move, 2, axis=-1)
            y = _conv(w, f"{name}.enc.res_skip_layers.{layer}", mx.tanh(value) * mx.sigmoid(gate))
            if layer < layers - 1:
                x = x + y[..., :width]
            total = total + y[..., -width:]
        return _conv(w, f"{name}.post", total)


class Generator:
    """`weights`: those of `models.generator.Generator`, weight norm folded."""

    def __init__(self, config: SynthesizerConfig, weights: Weights):
        self.config = config
        self._weights = weights
        self._ups = [
            Upsampling(weights[f"ups.{stage}.weight"], weights[f"ups.{stage}.bias"], rate)
            for stage, rate in enumerate(config.rates)
        ]

    def __call__(self, z: mx.array, har: mx.array, g: mx.array) -> mx.array:
        """Waveforms `[B, T·hop]` of `z [B, T, C]`, the source `har [B, T·hop, 1]` and `g [B, 1, G]`."""
        w = self._weights
        x = _conv(w, "conv_pre", z) + _conv(w, "cond", g)
        for stage, up in enumerate(self._ups):
            stride = math.prod(self.config.rates[stage + 1 :])
            noise = conv(
                har,
                w[f"noise_convs.{stage}.weight"],
                w[f"noise_convs.{stage}.bias"],
                stride=stride,
                padding=stride // 2,
            )
            x = self._refined(stage, up(_leaky(x, SLOPE)) + noise)
        x = conv(_leaky(x, LAST_SLOPE), w["conv_post.weight"], padding=ENDS_KERNEL // 2)
        return mx.tanh(x[..., 0])

    def _refined(self, stage: int, x: mx.array) -> mx.array:
        """The mean of a stage's residual blocks."""
        count = len(self.config.resblock_kernels)
        total = mx.zeros(())
        for block in range(stage * count, (stage + 1) * count):
            y = x
            for index, dilation in enumerate(self.config.dilations):
                inner = _conv(self._weights, f"resblocks.{block}.convs1.{index}", _leaky(y, SLOPE), dilation)
                y = y + _conv(self._weights, f"resblocks.{block}.convs2.{index}", _leaky(inner, SLOPE))
            total = total + y
        return total / count


def _conv(weights: Weights, name: str, x: mx.array, dilation: int = 1) -> mx.array:
    """The convolution `name`, which keeps the length."""
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    padding = (weight.shape[1] - 1) // 2 * dilation
    return conv(x, weight, bias, padding=padding, dilation=dilation)


def _leaky(x: mx.array, slope: float) -> mx.array:
    return mx.maximum(x, slope * x)
