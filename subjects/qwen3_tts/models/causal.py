"""Causal layers: convolutions and transposed ones that see what is behind, in a stream as in one pass.

What was before an input is asked of a `Past`: nothing, or what a stream kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.attend import Attend
from harness.nn.blocks import Rope
from harness.nn.folded import Folded, Read
from harness.tensor_files import Shape


class Past(Protocol):
    """What was before the input at hand."""

    def joined(self, layer: CausalConv, x: Tensor) -> Tensor:
        """`x [B, C, n]` behind the `layer.reach` columns of the layer's input before it."""
        ...

    def attention(self, x: Tensor) -> tuple[Rope, Iterable[Attend]]:
        """The RoPE table of the frames `x [B, n, H]`, and how each layer in turn lets them see keys."""
        ...


class CausalConv(nn.Module):
    """Convolution `[B, C, n] -> [B, C', n]` that sees a column and `reach` = (k - 1)·dilation before it."""

    def __init__(self, channels: int, out: int, kernel: int, dilation: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(channels, out, kernel, dilation=dilation, groups=groups)
        self.reach = (kernel - 1) * dilation

    def forward(self, x: Tensor, past: Past) -> Tensor:
        length = x.shape[-1]
        if self.reach:
            x = past.joined(self, x)
        if x.device.type == "cpu" and self.conv.groups == 1 and length <= self.conv.out_channels:
            return self._product(x)
        return self.conv(x)

    def _product(self, x: Tensor) -> Tensor:
        """The same as a matrix product. oneDNN would lay out the weights anew, of which there are more."""
        columns = x.unfold(-1, self.reach + 1, 1)[..., :: self.conv.dilation[0]]  # [B, C, n, k]
        rows = columns.transpose(1, 2).flatten(2)
        return F.linear(rows, self.conv.weight.flatten(1), self.conv.bias).transpose(1, 2)


class Upsampling(CausalConv, Folded):
    """Transposed convolution `[B, C, n] -> [B, C', n·stride]` of kernel `columns`·stride, cut after n·stride.

    Output i·stride + j is the product of columns i, i - 1, ... with the kernel's places j, j + stride, ...:
    that is a convolution with `stride` outputs in each channel, and none is computed to be cut off.
    """

    def __init__(self, channels: int, out: int, stride: int, columns: int):
        super().__init__(channels, out * stride, columns)
        self.stride = stride

    def forward(self, x: Tensor, past: Past) -> Tensor:
        return super().forward(x, past).unflatten(1, (-1, self.stride)).transpose(2, 3).flatten(2)

    def stored(self) -> dict[str, Shape]:
        outs, channels, columns = self.conv.weight.shape
        out = outs // self.stride
        return {"conv.weight": (channels, out, columns * self.stride), "conv.bias": (out,)}

    def folded(self, name: str, read: Read) -> Tensor:
        if name == "conv.bias":
            return read(name).repeat_interleave(self.stride)
        # [C, C', columns, stride], the oldest column first
        places = read(name).unflatten(2, (-1, self.stride)).flip(2)
        return places.permute(1, 3, 0, 2).flatten(0, 1)
