"""Matrices of several modules one below the other in one memory: linears of one input are then one product.

Three small products read their input three times and are three launches; one is neither. The weights keep
their names: each is a view of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Packed(nn.Module):
    """A module whose parts named in `joined` are one matrix: linears of one input, no bias, or embeddings.

    `packed`: their weights `[sum of rows, width]`, or None where each has memory of its own, as when
    quantized. It is no part of the state, which has the views.
    """

    joined: tuple[str, ...]
    packed: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("packed", None, persistent=False)

    def product(self, x: Tensor) -> Tensor:
        """Outputs `[..., sum of outs]` of the linears for `x [..., in]`, side by side."""
        if self.packed is None:
            return torch.cat(self.products(x), dim=-1)
        return F.linear(x, self.packed)

    def products(self, x: Tensor) -> list[Tensor]:
        """The outputs `[..., out]` one by one: views of one product where the weights are packed."""
        if self.packed is None:
            return [linear(x) for linear in self.parts()]
        outs = [len(linear.weight) for linear in self.parts()]
        return list(F.linear(x, self.packed).split(outs, dim=-1))

    def pack(self, like: Tensor, device: torch.device, dtype: torch.dtype) -> None:
        """Give the weights one memory, unless they have it: uninitialised, and fake where `like` is."""
        if self.packed is not None:
            return
        parts = self.parts()
        rows = [len(part.weight) for part in parts]
        packed = like.new_empty((sum(rows), parts[0].weight.shape[1]), device=device, dtype=dtype)
        for part, weight in zip(parts, packed.split(rows), strict=True):
            part.weight = nn.Parameter(weight, requires_grad=False)
        self.packed = packed

    def parts(self) -> list[Any]:
        """The modules that are joined, in the order of their rows."""
        return [getattr(self, name) for name in self.joined]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Packed:
        self.packed = None  # each weight is about to get memory of its own
        return super()._apply(fn, recurse)


def joined(module: nn.Module) -> dict[str, Packed]:
    """Who packs the weights of `module`, by their names, of those that have no memory yet."""
    return {
        f"{path}.{name}.weight".removeprefix("."): part
        for path, part in module.named_modules()
        if isinstance(part, Packed) and all(linear.weight.is_meta for linear in part.parts())
        for name in part.joined
    }


def unpack(module: nn.Module) -> None:
    """Let every linear of `module` stand by itself. Its weight stays where it is until it is replaced."""
    for part in module.modules():
        if isinstance(part, Packed):
            part.packed = None
