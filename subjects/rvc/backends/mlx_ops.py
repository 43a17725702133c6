"""Convolutions in MLX, of rows `[B, n, C]` and pictures `[B, T, M, C]`, with kernels as torch's networks have
them: `[O, ..., I]`, transposed ones `[I, ..., O]`.

On a CPU, MLX computes dilated and transposed convolutions by loops without a matrix product, and any other by
one whose left side it lays out anew. There, and there alone, a convolution over time is the sum of a product
for each tap, and a transposed one a plain one that makes all places of a stride side by side (polyphase).
Imports mlx (`pip install '.[mlx]'`).
"""

from __future__ import annotations

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import numpy as np
from torch import nn

POOL = 2  # stride of what halves and doubles a picture

Weights = dict[str, mx.array]


def arrays(network: nn.Module) -> Weights:
    """Parameters of a network of torch, copied: the tensors that it computes with."""
    return {name: mx.array(p.detach().cpu().numpy()) for name, p in network.named_parameters()}


def on_cpu() -> bool:
    """Whether MLX computes on a CPU."""
    return mx.default_device().type == mx.DeviceType.cpu


def linear(x: mx.array, weight: mx.array, bias: mx.array | None = None) -> mx.array:
    """`[..., I] -> [..., O]` by `weight [O, I]`."""
    return x @ weight.T if bias is None else mx.addmm(bias, x, weight.T)


def conv(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """Convolution over time `[B, n, I] -> [B, n', O]` by `weight [O, k, I / groups]`."""
    if weight.shape[1] == stride == 1:
        return linear(x, weight[:, 0], bias)
    if stride == groups == 1 and on_cpu():
        return tap_by_tap(x, weight, bias, padding, dilation)
    y = mx.conv1d(x, weight, stride, padding, dilation, groups)
    return y if bias is None else y + bias


def tap_by_tap(x: mx.array, weight: mx.array, bias: mx.array | None, padding: int, dilation: int) -> mx.array:
    """A convolution of stride 1 as the sum of a matrix product for each tap, of what it sees as it lies."""
    kernel = weight.shape[1]
    x = mx.pad(x, [(0, 0), (padding, padding), (0, 0)])
    length = x.shape[1] - (kernel - 1) * dilation
    y = linear(x[:, :length], weight[:, 0], bias)
    for tap in range(1, kernel):
        y = mx.addmm(y, x[:, tap * dilation : tap * dilation + length], weight[:, tap].T)
    return y


class Upsampling:
    """Transposed convolution over time, `[B, n, I] -> [B, n·stride, O]`, by `weight [I, k, O]`."""

    def __init__(self, weight: mx.array, bias: mx.array | None, stride: int):
        _, self._kernel, self._out = weight.shape
        self._stride, self._bias = stride, bias
        self._padding = (self._kernel - stride) // 2
        self._polyphase = on_cpu()
        self._weight = self._phases(weight) if self._polyphase else mx.contiguous(weight.transpose(2, 1, 0))

    def _phases(self, weight: mx.array) -> mx.array:
        """`[stride·O, ceil(k / stride), I]`: tap j·stride + r is what place r has of the column j before."""
        columns = -(-self._kernel // self._stride)
        taps = mx.pad(weight, [(0, 0), (0, columns * self._stride - self._kernel), (0, 0)])
        phases = taps.reshape(-1, columns, self._stride * self._out)[:, ::-1]
        return mx.contiguous(phases.transpose(2, 1, 0))

    def __call__(self, x: mx.array) -> mx.array:
        if self._polyphase:
            places = conv(x, self._weight, padding=self._weight.shape[1] - 1)
            length = (x.shape[1] - 1) * self._stride + self._kernel - 2 * self._padding
            y = places.reshape(len(x), -1, self._out)[:, self._padding : self._padding + length]
        else:
            y = mx.conv_transpose1d(x, self._weight, self._stride, self._padding)
        return y if self._bias is None else y + self._bias


class Doubling:
    """Transposed convolution of pictures `[B, T, M, I] -> [B, 2·T, 2·M, O]` by `weight [I, 3, 3, O]`.

    Stride 2, a padding of 1, and an output padding of 1, at the last row and column alone.
    """

    def __init__(self, weight: mx.array, bias: mx.array | None):
        self._bias, self._out = bias, weight.shape[-1]
        self._polyphase = on_cpu()
        self._weight = _phases_2d(weight) if self._polyphase else mx.contiguous(weight.transpose(3, 1, 2, 0))

    def __call__(self, x: mx.array) -> mx.array:
        if self._polyphase:
            rows, columns = x.shape[1:3]
            x = mx.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])
            places = mx.conv2d(x, self._weight).reshape(len(x), rows, columns, POOL, POOL, self._out)
            y = places.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), POOL * rows, POOL * columns, self._out)
        else:
            y = mx.conv_transpose2d(x, self._weight, POOL, 1, output_padding=1)
        return y if self._bias is None else y + self._bias


def _phases_2d(weight: mx.array) -> mx.array:
    """`[4·O, 2, 2, I]`: an even place has the middle tap of its own column, an odd one the last tap of it and
    the first of the column behind."""
    kernel = np.array(weight)
    taps = {(0, 0): 1, (1, 0): 2, (1, 1): 0}  # by place and column
    phases = np.zeros((POOL, POOL, kernel.shape[-1], POOL, POOL, kernel.shape[0]), kernel.dtype)
    for (row, below), down in taps.items():
        for (column, behind), right in taps.items():
            phases[row, column, :, below, behind] = kernel[:, down, right].T
    return mx.array(phases.reshape(-1, *phases.shape[3:]))
