"""Convolutions of pictures `[B, C, T, M]`, and the batch norms behind them, folded into them or left in."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.nn.folded import Folded, Read, wide
from harness.tensor_files import Shape

EPS = 1e-5  # of batch norms
POOL = 2  # stride of what halves and doubles a picture
STATISTICS = ("weight", "bias", "running_mean", "running_var")

Rows = tuple[int, int]  # first and last


class BatchNorm(nn.Module):
    """Batch norm by running statistics, as a file has it."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias, self.running_mean, self.running_var = (
            nn.Parameter(torch.empty(channels)) for _ in STATISTICS
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPS)


class Scaling(Folded):
    """The same as a factor and a shift."""

    def __init__(self, channels: int):
        super().__init__()
        self.factor = nn.Parameter(torch.empty(channels))
        self.shift = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift.view(-1, 1, 1), x, self.factor.view(-1, 1, 1))

    def stored(self) -> dict[str, Shape]:
        return dict.fromkeys(STATISTICS, tuple(self.factor.shape))

    def folded(self, name: str, read: Read) -> Tensor:
        factor, shift = _affine(read)
        return factor if name == "factor" else shift


def _affine(read: Read) -> tuple[Tensor, Tensor]:
    """Factor and shift of the batch norm that `read` reads."""
    weight, bias, mean, variance = (wide(read(name)) for name in STATISTICS)
    factor = weight / (variance + EPS).sqrt()
    return factor, bias - mean * factor


class Conv(Folded):
    """Convolution of pictures that keeps their size, or (`up`) a transposed one of stride 2 that doubles it.

    Its kernel is laid out channels last, `[O, k, k, I]` (transposed, `[I, k, k, O]`), as its pictures are:
    oneDNN would lay it out so at every call.
    """

    def __init__(self, channels: int, out: int, kernel: int = 3, *, up: bool = False, bias: bool = True):
        super().__init__()
        rows, columns = (channels, out) if up else (out, channels)
        self.weight = nn.Parameter(torch.empty(rows, kernel, kernel, columns))
        self.bias = nn.Parameter(torch.empty(out)) if bias else None
        self.up, self.out, self.padding = up, out, kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.permute(0, 3, 1, 2)
        if self.up:
            return F.conv_transpose2d(x, kernel, self.bias, POOL, self.padding, output_padding=1)
        return F.conv2d(x, kernel, self.bias, padding=self.padding)

    def stored(self) -> dict[str, Shape]:
        rows, height, width, columns = self.weight.shape
        shapes: dict[str, Shape] = {"weight": (rows, columns, height, width)}
        return shapes if self.bias is None else shapes | {"bias": (self.out,)}

    def folded(self, name: str, read: Read) -> Tensor:
        return read(name).permute(0, 2, 3, 1) if name == "weight" else read(name)

    def seen(self, rows: Rows) -> Rows:
        """First and last row of the input that `rows` of the output depend on, beyond its ends as well."""
        first, last = rows
        reach = self.weight.shape[1] - 1 - self.padding
        if self.up:
            return -((reach - first) // POOL), (last + self.padding) // POOL
        return first - self.padding, last + reach


class FoldedConvs(Folded):
    """Convolutions with the batch norms behind them, each followed by ReLU.

    Stored they are `0` and `1`, `3` and `4`; here `0` and `3`.
    """

    def __init__(self, *widths: tuple[int, int], up: bool = False):
        super().__init__()
        for place, (channels, out) in enumerate(widths):
            self.add_module(str(3 * place), Conv(channels, out, up=up))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.children():
            x = conv(x).relu_()
        return x

    def stored(self) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for place, conv in self.named_children():
            conv = cast(Conv, conv)
            shapes[f"{place}.weight"] = conv.stored()["weight"]
            shapes |= {f"{int(place) + 1}.{name}": (conv.out,) for name in STATISTICS}
        return shapes

    def folded(self, name: str, read: Read) -> Tensor:
        place, _, leaf = name.partition(".")
        conv = cast(Conv, self.get_submodule(place))
        factor, shift = _affine(lambda statistic: read(f"{int(place) + 1}.{statistic}"))
        if leaf == "bias":
            return shift
        by_output = factor.view((1, -1, 1, 1) if conv.up else (-1, 1, 1, 1))
        return conv.folded(leaf, lambda _: wide(read(name)) * by_output)


def convs(folded: bool, *widths: tuple[int, int], up: bool = False) -> nn.Module:
    """Convolutions from and to so many channels, each with batch norm and ReLU: folded, or as a file is."""
    if folded:
        return FoldedConvs(*widths, up=up)
    layers = ((Conv(a, b, up=up, bias=False), BatchNorm(b), nn.ReLU(inplace=True)) for a, b in widths)
    return nn.Sequential(*(part for layer in layers for part in layer))


def seen(module: nn.Module, rows: Rows) -> Rows:
    """`Conv.seen` through all convolutions of `module`, one behind the other."""
    for layer in reversed([*module.modules()]):
        if isinstance(layer, Conv):
            rows = layer.seen(rows)
    return rows
