"""Linears that read the same input as one product: their matrices one below the other in one memory.

Three small products read their input three times and are three launches; one is neither. The weights keep
their names: each is a view of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Packed(nn.Module):
    """A module whose linears named in `joined`, none of which has a bias, read the same input.

    `packed`: their weights as one matrix `[sum of outs, in]`, or None where each has memory of its own, as
    when quantized. It is no part of the state, which has the views.
    """

    joined: ClassVar[tuple[str, ...]]
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
            return [linear(x) for linear in self._linears()]
        outs = [linear.out_features for linear in self._linears()]
        return list(F.linear(x, self.packed).split(outs, dim=-1))

    def pack(self, like: Tensor, device: torch.device, dtype: torch.dtype) -> None:
        """Give the linears one memory, unless they have it: uninitialised, and fake where `like` is."""
        if self.packed is not None:
            return
        linears = self._linears()
        outs = [linear.out_features for linear in linears]
        packed = like.new_empty((sum(outs), linears[0].in_features), device=device, dtype=dtype)
        for linear, rows in zip(linears, packed.split(outs), strict=True):
            linear.weight = nn.Parameter(rows, requires_grad=False)
        self.packed = packed

    def _linears(self) -> list[nn.Linear]:
        return [getattr(self, name) for name in self.joined]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Packed:
        self.packed = None  # each weight is about to get memory of its own
        return super()._apply(fn, recurse)


def joined(module: nn.Module) -> dict[str, Packed]:
    """Who packs the weights of `module`, by their names, of those that have no memory yet."""
    return {
        f"{path}.{name}.weight".removeprefix("."): part
        for path, part in module.named_modules()
        if isinstance(part, Packed) and all(linear.weight.is_meta for linear in part._linears())
        for name in part.joined
    }


def unpack(module: nn.Module) -> None:
    """Let every linear of `module` stand by itself. Its weight stays where it is until it is replaced."""
    for part in module.modules():
        if isinstance(part, Packed):
            part.packed = None
