"""Modules that keep what they compute with, computed once from what a checkpoint's file holds.

A file's parameters and those of the computation differ where something can be computed ahead: a logarithm
undone, a quotient taken, a matrix laid out as it is read. Such a module has names and shapes of both kinds;
in any other they are the same.

    check_shapes(stored_shapes(model), weights)
    materialise(model, partial(fold, model, read=weights.read), device=device, dtype=dtype)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from harness.tensor_files import Shape

Read = Callable[[str], Tensor]


class Folded(nn.Module):
    """A module whose parameters are computed from others, by those names that a file has."""

    def stored(self) -> dict[str, Shape]:
        """Names and shapes in the file, below the module's own name."""
        raise NotImplementedError

    def folded(self, name: str, read: Read) -> Tensor:
        """The parameter `name` of the module, in fp32 or better, by what `read` finds under stored names."""
        raise NotImplementedError


def stored_shapes(module: nn.Module, prefix: str = "") -> dict[str, Shape]:
    """Names and shapes that a file of `module` holds."""
    if isinstance(module, Folded):
        return {prefix + name: shape for name, shape in module.stored().items()}
    shapes = {prefix + name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}
    for name, child in module.named_children():
        shapes |= stored_shapes(child, f"{prefix}{name}.")
    return shapes


def fold(module: nn.Module, name: str, read: Read) -> Tensor:
    """The parameter `name` of `module`, from what `read` finds in its file."""
    if isinstance(module, Folded):
        return module.folded(name, read)
    child, _, rest = name.partition(".")
    if not rest:
        return read(name)
    return fold(module.get_submodule(child), rest, lambda leaf: read(f"{child}.{leaf}"))


def wide(x: Tensor) -> Tensor:
    """`x` in fp32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
