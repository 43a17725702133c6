"""RMVPE in MLX. Imports mlx (`pip install '.[mlx]'`)."""

from __future__ import annotations

import mlx.core as mx  # pyright: ignore[reportMissingImports]

from subjects.rvc.backends.mlx_ops import POOL, Doubling, Weights, linear
from subjects.rvc.config import RMVPEConfig

STEPS = 256  # of the GRU in a graph


class RMVPE:
    """`weights`: those of `models.rmvpe.RMVPE`, batch norms folded."""

    def __init__(self, config: RMVPEConfig, weights: Weights):
        self.config = config
        self._weights = weights
        names = [f"unet.decoder.layers.{level}.conv1.0" for level in range(config.levels)]
        self._doublings = [Doubling(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]

    def __call__(self, mel: mx.array) -> mx.array:
        """Salience `[B, T, 360]` of log-mels `mel [B, T, 128]`, T a multiple of 32."""
        return self.salience(self.features(mel))

    def features(self, mel: mx.array) -> mx.array:
        """`[B, T, 384]` of `mel [B, T, 128]`, T a multiple of 32: the picture's 3 channels in turn."""
        w, config = self._weights, self.config
        x = mel[..., None] * w["unet.encoder.bn.factor"] + w["unet.encoder.bn.shift"]
        skips = []
        for level in range(config.levels):
            skips.append(self._blocks(f"unet.encoder.layers.{level}.conv", x))
            x = _halved(skips[-1])
        for level in range(config.intermediate):
            x = self._blocks(f"unet.intermediate.layers.{level}.conv", x)
        for level, doubled in enumerate(self._doublings):
            x = mx.concatenate((mx.maximum(doubled(x), 0), skips.pop()), axis=-1)
            x = self._blocks(f"unet.decoder.layers.{level}.conv2", x)
        return self._conv("cnn", x).transpose(0, 1, 3, 2).flatten(2)

    def salience(self, features: mx.array) -> mx.array:
        """Salience `[B, T, 360]` of `features [B, T, 384]` of a whole recording."""
        w = self._weights
        return mx.sigmoid(linear(self._gru(features), w["fc.1.weight"], w["fc.1.bias"]))

    def _blocks(self, name: str, x: mx.array) -> mx.array:
        for index in range(self.config.blocks):
            block = f"{name}.{index}"
            y = mx.maximum(self._conv(f"{block}.conv.0", x), 0)
            y = mx.maximum(self._conv(f"{block}.conv.3", y), 0)
            x = y + (self._conv(f"{block}.shortcut", x) if f"{block}.shortcut.weight" in self._weights else x)
        return x

    def _conv(self, name: str, x: mx.array) -> mx.array:
        weight = self._weights[f"{name}.weight"]
        return mx.conv2d(x, weight, padding=weight.shape[1] // 2) + self._weights[f"{name}.bias"]

    def _gru(self, x: mx.array) -> mx.array:
        """Both directions `[B, T, 2·H]` of `x [B, T, I]`, side by side in one batch.

        r, z = σ(Wx + b + Uh + c)      n = tanh(Wx + b + r·(Uh + c))      h = (1 - z)·n + z·h
        """
        w_in, w_state, b_in, b_state = (
            mx.stack([self._weights[f"fc.0.gru.{leaf}_l0{way}"] for way in ("", "_reverse")])
            for leaf in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        both = mx.stack([x, x[:, ::-1]])
        inputs = both @ w_in.transpose(0, 2, 1)[:, None] + b_in[:, None, None]
        transposed, b_state = mx.contiguous(w_state.transpose(0, 2, 1)), b_state[:, None]
        width = w_state.shape[-1]
        h, states = mx.zeros((2, len(x), width)), []
        for step in range(x.shape[1]):
            now, past = inputs[:, :, step], h @ transposed + b_state
            gates = mx.sigmoid(now[..., : 2 * width] + past[..., : 2 * width])
            r, z = gates[..., :width], gates[..., width:]
            n = mx.tanh(now[..., 2 * width :] + r * past[..., 2 * width :])
            h = n + z * (h - n)
            states.append(h)
            if step % STEPS == STEPS - 1:
                mx.eval(h)
        forward, backward = mx.stack(states, axis=2)
        return mx.concatenate((forward, backward[:, ::-1]), axis=-1)


def _halved(x: mx.array) -> mx.array:
    """Means of squares of four."""
    batch, rows, columns, channels = x.shape
    return x.reshape(batch, rows // POOL, POOL, columns // POOL, POOL, channels).mean((2, 4))
