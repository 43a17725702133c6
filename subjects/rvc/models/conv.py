"""Convolutions over time, of rows of channels `[B, n, C]`.

A CPU's kernels, and a card's of half precision, read channels side by side; with them so from end to end
nothing is laid out anew between two convolutions, and a kernel of 1 is a matrix product.

Checkpoints store most convolutions weight-normalised: w = g·v / |v|. That is computed once, at load
(`harness.nn.folded`), unless a benchmark asks what it costs to leave it in (`leave_weight_norm_in`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from harness.checkpoint import Weights
from harness.nn.folded import Folded, Read, wide
from harness.tensor_files import Shape

G_V = ("weight_g", "weight_v")
PARAMETRIZED = ("parametrizations.weight.original0", "parametrizations.weight.original1")


class Norm(NamedTuple):
    """Weight norm: one length for each index of axis `dim` of what is stored, under the names `g` and `v`."""

    dim: int
    g: str
    v: str


BY_ROW = Norm(0, *G_V)  # of a transposed convolution a row is an input channel
BY_TAP = Norm(2, *PARAMETRIZED)


class Conv(Folded):
    """Convolution `[B, n, C] -> [B, n', C']`, n' = n unless `stride` or `padding` say otherwise.

    Stored is `[C', C / groups, k]`; `weight [C', k, C / groups]` is laid out as it is read.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        norm: Norm | None = None,
    ):
        super().__init__()
        self.kernel, self.stride, self.dilation, self.groups = kernel, stride, dilation, groups
        self.padding = (kernel - 1) // 2 * dilation if padding is None else padding
        self.norm = norm
        self.weight = nn.Parameter(torch.empty(self._shape(channels, out)))
        self.register_parameter("bias", nn.Parameter(torch.empty(out)) if bias else None)

    def _shape(self, channels: int, out: int) -> Shape:
        return out, self.kernel, channels // self.groups

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel == self.stride == 1:
            return F.linear(x, self.weight[:, 0], self.bias)
        steps = (1, self.stride), (0, self.padding), (1, self.dilation)
        return _rows(F.conv2d(_image(x), _image(self.weight), self.bias, *steps, self.groups))

    def stored(self) -> dict[str, Shape]:
        first, kernel, second = self.weight.shape
        shape = first, second, kernel
        shapes = {"bias": tuple(self.bias.shape)} if self.bias is not None else {}
        if self.norm is None:
            return shapes | {"weight": shape}
        lengths = tuple(size if dim == self.norm.dim else 1 for dim, size in enumerate(shape))
        return shapes | {self.norm.g: lengths, self.norm.v: shape}

    def folded(self, name: str, read: Read) -> Tensor:
        if name == "bias" or self.norm is None:
            value = read(name)
        else:
            g, v = wide(read(self.norm.g)), wide(read(self.norm.v))
            value = v * (g / torch.linalg.vector_norm(v, dim=others(self.norm.dim), keepdim=True))
        return value if name == "bias" else value.transpose(1, 2)


class Upsampling(Conv):
    """Transposed convolution `[B, n, C] -> [B, n·stride, C']`. Stored is `[C, C', k]`."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, norm: Norm | None = None):
        super().__init__(channels, out, kernel, stride=stride, padding=(kernel - stride) // 2, norm=norm)

    def _shape(self, channels: int, out: int) -> Shape:
        return channels, self.kernel, out

    def forward(self, x: Tensor) -> Tensor:
        steps = (1, self.stride), (0, self.padding)
        return _rows(F.conv_transpose2d(_image(x), _image(self.weight), self.bias, *steps))


def others(dim: int) -> list[int]:
    """The axes of a convolution's stored weight but `dim`."""
    return [axis for axis in range(3) if axis != dim]


def _image(rows: Tensor) -> Tensor:
    """`[N, n, C]` as an image `[N, C, 1, n]` whose channels lie side by side."""
    return rows[:, None].permute(0, 3, 1, 2)


def _rows(image: Tensor) -> Tensor:
    return image[:, :, 0].transpose(1, 2)


def leave_weight_norm_in(model: nn.Module) -> None:
    """Let every weight-normalised convolution of `model` compute its weight at each call, as in training.

    What it computes stays the same: the weight at hand is v, and its lengths are g.
    """
    for module in list(model.modules()):
        if isinstance(module, Conv) and module.norm is not None:
            weight_norm(module, dim=(0, 2, 1)[module.norm.dim])


class Respelled:
    """The tensors of `held` under the names of `expected`: weight norm has two spellings.

    Any other name stays as it is, for `harness.checkpoint.check_shapes` to judge.
    """

    def __init__(self, held: Weights, expected: Mapping[str, Shape]):
        self.where = held.where
        self._held = held
        self._names = {_spelled(name, expected): name for name in held.shapes()}

    def shapes(self) -> Mapping[str, Shape]:
        shapes = self._held.shapes()
        return {name: shapes[stored] for name, stored in self._names.items()}

    def read(self, name: str) -> Tensor:
        return self._held.read(self._names[name])


def _spelled(name: str, expected: Mapping[str, Shape]) -> str:
    for one, other in zip(G_V + PARAMETRIZED, PARAMETRIZED + G_V, strict=True):
        if name.endswith(f".{one}") and (respelled := name.removesuffix(one) + other) in expected:
            return respelled
    return name
