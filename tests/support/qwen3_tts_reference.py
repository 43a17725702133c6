"""Qwen3-TTS's Decoder12Hz and speaker encoder in fp64, written as their formulas, place by place.

Nothing here is shared with `subjects.qwen3_tts`. Arrays are `[channels, places]`; `w` has a checkpoint's
tensors by their published names.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import erf

import numpy as np

Array = np.ndarray
Weights = Mapping[str, Array]


def causal(w: Weights, name: str, x: Array, dilation: int = 1) -> Array:
    """y[o, t] = b[o] + sum over j of W[o, :, j]·x[:, t - (k - 1 - j)·d], of x from place 0 on."""
    kernel, bias = w[f"{name}.weight"], w.get(f"{name}.bias", 0.0)
    depthwise, size = kernel.shape[1] == 1 < len(x), kernel.shape[2]
    y = np.zeros((len(kernel), x.shape[1]))
    for t in range(x.shape[1]):
        y[:, t] = bias
        for j in range(size):
            if (source := t - (size - 1 - j) * dilation) >= 0:
                y[:, t] += kernel[:, 0, j] * x[:, source] if depthwise else kernel[:, :, j] @ x[:, source]
    return y


def transposed(w: Weights, name: str, x: Array, stride: int) -> Array:
    """Place t of x is added, times W[:, :, j], to place t·stride + j of y, of which n·stride are kept."""
    kernel = w[f"{name}.weight"]
    y = np.zeros((kernel.shape[1], x.shape[1] * stride + kernel.shape[2]))
    for t in range(x.shape[1]):
        for j in range(kernel.shape[2]):
            y[:, t * stride + j] += kernel[:, :, j].T @ x[:, t]
    return y[:, : x.shape[1] * stride] + w[f"{name}.bias"][:, None]


def snake(w: Weights, name: str, x: Array) -> Array:
    alpha, beta = (np.exp(w[f"{name}.{leaf}"])[:, None] for leaf in ("alpha", "beta"))
    return x + np.sin(alpha * x) ** 2 / (beta + 1e-9)


def linear(w: Weights, name: str, x: Array) -> Array:
    return w[f"{name}.weight"] @ x + np.asarray(w.get(f"{name}.bias", 0.0)).reshape(-1, 1)


def rms(x: Array, weight: Array, eps: float) -> Array:
    return x / np.sqrt((x**2).mean(0) + eps) * weight[:, None]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def rotated(x: Array, theta: float) -> Array:
    """RoPE: the pair (x[i], x[i + d/2]) at place t is turned by t·theta^(-2i/d)."""
    half, y = len(x) // 2, x.copy()
    for t in range(x.shape[1]):
        for i in range(half):
            angle = t * theta ** (-2 * i / len(x))
            y[i, t] = x[i, t] * np.cos(angle) - x[i + half, t] * np.sin(angle)
            y[i + half, t] = x[i + half, t] * np.cos(angle) + x[i, t] * np.sin(angle)
    return y


def attention(w: Weights, name: str, x: Array, heads: int, theta: float, window: int) -> Array:
    """Each place sees itself and the `window` - 1 before."""
    q, k, v = (linear(w, f"{name}.{part}_proj", x).reshape(heads, -1, x.shape[1]) for part in "qkv")
    y = np.zeros_like(q)
    for head in range(heads):
        turned_q, turned_k = rotated(q[head], theta), rotated(k[head], theta)
        for t in range(x.shape[1]):
            first = max(0, t - window + 1)
            scores = turned_q[:, t] @ turned_k[:, first : t + 1] / np.sqrt(q.shape[1])
            shares = np.exp(scores - scores.max())
            y[head, :, t] = v[head][:, first : t + 1] @ (shares / shares.sum())
    return linear(w, f"{name}.o_proj", y.reshape(-1, x.shape[1]))


def codes_to_rows(w: Weights, codes: Array) -> Array:
    """Sums `[wide, T]` of the books' rows for `codes [16, T]`, the first projected apart from the others."""

    def entries(name: str, row: Array) -> Array:
        sums, usage = w[f"{name}._codebook.embedding_sum"], w[f"{name}._codebook.cluster_usage"]
        return np.stack([sums[code] / max(usage[code], 1e-5) for code in row], axis=1)

    rest = sum(entries(f"quantizer.rvq_rest.vq.layers.{i}", row) for i, row in enumerate(codes[1:]))
    first = entries("quantizer.rvq_first.vq.layers.0", codes[0])
    project = [w[f"quantizer.rvq_{part}.output_proj.weight"][:, :, 0] for part in ("first", "rest")]
    return project[0] @ first + project[1] @ np.asarray(rest)


def transformer(
    w: Weights, x: Array, *, layers: int, heads: int, theta: float, window: int, eps: float
) -> Array:
    x = linear(w, "pre_transformer.input_proj", x)
    for layer in range(layers):
        name = f"pre_transformer.layers.{layer}"
        normed = rms(x, w[f"{name}.input_layernorm.weight"], eps)
        seen = attention(w, f"{name}.self_attn", normed, heads, theta, window)
        x = x + w[f"{name}.self_attn_layer_scale.scale"][:, None] * seen
        normed = rms(x, w[f"{name}.post_attention_layernorm.weight"], eps)
        gated = silu(linear(w, f"{name}.mlp.gate_proj", normed)) * linear(w, f"{name}.mlp.up_proj", normed)
        x = x + w[f"{name}.mlp_layer_scale.scale"][:, None] * linear(w, f"{name}.mlp.down_proj", gated)
    return linear(w, "pre_transformer.output_proj", rms(x, w["pre_transformer.norm.weight"], eps))


def conv_next(w: Weights, name: str, x: Array) -> Array:
    y = causal(w, f"{name}.dwconv.conv", x)
    y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-6)
    y = y * w[f"{name}.norm.weight"][:, None] + w[f"{name}.norm.bias"][:, None]
    y = linear(w, f"{name}.pwconv1", y)
    y = 0.5 * y * (1 + np.vectorize(erf)(y / np.sqrt(2)))
    return x + w[f"{name}.gamma"][:, None] * linear(w, f"{name}.pwconv2", y)


def decoded(w: Weights, codes: Array, *, ratios: list[int], rates: list[int], **attention: float) -> Array:
    """The waveform `[n]` of `codes [16, T]`; `attention`: what `transformer` is told."""
    x = causal(w, "pre_conv.conv", codes_to_rows(w, codes))
    x = transformer(w, x, **attention)  # pyright: ignore[reportArgumentType]
    for stage, ratio in enumerate(ratios):
        x = conv_next(w, f"upsample.{stage}.1", transposed(w, f"upsample.{stage}.0.conv", x, ratio))
    x = causal(w, "decoder.0.conv", x)
    for block, rate in enumerate(rates, 1):
        name = f"decoder.{block}.block"
        x = transposed(w, f"{name}.1.conv", snake(w, f"{name}.0", x), rate)
        for unit, dilation in ((2, 1), (3, 3), (4, 9)):
            y = causal(w, f"{name}.{unit}.conv1.conv", snake(w, f"{name}.{unit}.act1", x), dilation)
            x = x + causal(w, f"{name}.{unit}.conv2.conv", snake(w, f"{name}.{unit}.act2", y))
    last = len(rates) + 1
    x = causal(w, f"decoder.{last + 1}.conv", snake(w, f"decoder.{last}", x))
    return x[0].clip(-1, 1)


def same(w: Weights, name: str, x: Array, dilation: int = 1) -> Array:
    """Convolution that keeps the length: place -i is place i, and the same at the end."""
    kernel, last = w[f"{name}.weight"], x.shape[1] - 1
    before = dilation * (kernel.shape[2] - 1) // 2
    y = np.zeros((len(kernel), last + 1))
    for t in range(last + 1):
        y[:, t] = w[f"{name}.bias"]
        for j in range(kernel.shape[2]):
            source = abs(t - before + j * dilation)
            y[:, t] += kernel[:, :, j] @ x[:, min(source, 2 * last - source)]
    return y


def statistics(x: Array, weights: Array) -> Array:
    mean = (x * weights).sum(1, keepdims=True)
    variance = ((x - mean) ** 2 * weights).sum(1, keepdims=True)
    return np.concatenate((mean, np.sqrt(np.maximum(variance, 1e-12))))


def voice(w: Weights, mel: Array, *, dilations: list[int], scale: int) -> Array:
    """The vector `[H]` of `mel [bands, T]`. `dilations`: of the three blocks."""
    x = np.maximum(same(w, "blocks.0.conv", mel), 0)
    views = []
    for block, dilation in enumerate(dilations, 1):
        name = f"blocks.{block}"
        y = np.maximum(same(w, f"{name}.tdnn1.conv", x), 0)
        parts = list(np.split(y, scale))
        for i in range(1, scale):
            before = parts[i - 1] if i > 1 else 0.0
            convolved = same(w, f"{name}.res2net_block.blocks.{i - 1}.conv", parts[i] + before, dilation)
            parts[i] = np.maximum(convolved, 0)
        y = np.maximum(same(w, f"{name}.tdnn2.conv", np.concatenate(parts)), 0)
        squeezed = np.maximum(same(w, f"{name}.se_block.conv1", y.mean(1, keepdims=True)), 0)
        x = x + y / (1 + np.exp(-same(w, f"{name}.se_block.conv2", squeezed)))
        views.append(x)
    x = np.maximum(same(w, "mfa.conv", np.concatenate(views)), 0)
    plain = statistics(x, np.full((1, x.shape[1]), 1 / x.shape[1]))
    spread = np.concatenate((x, np.repeat(plain, x.shape[1], axis=1)))
    scores = same(w, "asp.conv", np.tanh(np.maximum(same(w, "asp.tdnn.conv", spread), 0)))
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return same(w, "fc", statistics(x, shares / shares.sum(1, keepdims=True)))[:, 0]
