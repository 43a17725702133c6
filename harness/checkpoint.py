"""safetensors files, and how a model takes its weights from one.

A model is built on the meta device, its names and shapes are held against the file, and then each tensor is
read, cast and moved by itself. So the host never holds a second copy of a component, and of 20 GB in fp32
never more than one tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness.checkpoint_files import opened
from harness.device import DTYPES as FORMATS
from harness.errors import CheckpointError
from harness.nn.islands import kept_dtype
from harness.nn.packed import joined
from harness.tensor_files import Shape, stored_tensors

DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


class Weights(Protocol):
    """Named tensors of one component."""

    where: str  # for messages

    def shapes(self) -> Mapping[str, Shape]: ...

    def read(self, name: str) -> Tensor: ...


class SafetensorsFile:
    """Tensors of one safetensors file, or of the shards an index names.

    A file is open only while one tensor is read, and never mapped: of a mapping that stays, every page ever
    read counts as resident, and in the end that is the whole file.
    """

    def __init__(self, folder: Path, stem: str):
        self.where = str(folder / f"{stem}.safetensors")
        self._tensors = stored_tensors(folder, stem)
        # Published language models carry a prefix or not, depending on who saved them.
        prefixed = bool(self._tensors) and all(name.startswith("model.") for name in self._tensors)
        self._prefix = "model." if prefixed else ""
        self._shapes = {n.removeprefix(self._prefix): tensor.shape for n, tensor in self._tensors.items()}

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        """The tensor, in memory of its own. Raises CheckpointError when its bytes cannot be read, or are not
        all finite numbers."""
        stored = self._tensors[self._prefix + name]
        tensor = torch.empty(stored.shape, dtype=DTYPES[stored.dtype], device="cpu")
        content = tensor.view(-1).view(torch.uint8).numpy().data
        with opened(stored.path) as file:
            file.seek(stored.start)
            if file.readinto(content) < len(content):
                raise CheckpointError(f"{stored.path}: unreadable (it ends in {name}); download it again")
        return finite(tensor, name, str(stored.path))


def finite(tensor: Tensor, name: str, where: str) -> Tensor:
    """`tensor`, as it was read from a file: one pass over it, which holds nothing beside it.

    What is drawn by logits that are not numbers sounds like anything else. Raises CheckpointError unless all
    values are finite.
    """
    bounds = tensor.aminmax() if tensor.is_floating_point() and tensor.numel() else ()  # a NaN is both
    if not all(bool(bound.isfinite()) for bound in bounds):
        raise CheckpointError(f"{where}: {name} has values that are not numbers; download it again")
    return tensor


def check_shapes(expected: Mapping[str, Shape], weights: Weights) -> None:
    """Hold a model's names and shapes against a file; CheckpointError for the first difference."""
    shapes = weights.shapes()
    if missing := expected.keys() - shapes.keys():
        raise CheckpointError(f"{weights.where}: {_some(missing)} missing; is this another architecture?")
    if unexpected := shapes.keys() - expected.keys():
        raise CheckpointError(f"{weights.where}: {_some(unexpected)} not of this architecture")
    for name, shape in expected.items():
        if tuple(shapes[name]) != tuple(shape):
            raise CheckpointError(f"{weights.where}: {name} is {shapes[name]}, expected {shape}")


def _some(names: set[str]) -> str:
    first = min(names)
    return f"{first} and {len(names) - 1} more are" if len(names) > 1 else f"{first} is"


def parameter_shapes(module: nn.Module, prefix: str = "") -> dict[str, Shape]:
    """Names and shapes of a module's parameters."""
    return {prefix + name: tuple(p.shape) for name, p in module.named_parameters()}


def on_meta(build: Callable[[], nn.Module]) -> Any:
    """Build a module without memory: shapes and names only."""
    with torch.device("meta"):
        return build()


def materialise(
    module: nn.Module,
    read: Callable[[str], Tensor],
    *,
    prefix: str = "",
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give a meta module its tensors, one at a time: read, cast, move, assign. What has values keeps them.

    Weights that are one product are read into one memory (`harness.nn.packed`), those of islands in their own
    dtype (`harness.nn.islands`). Raises CheckpointError for a value that the dtype has no room for.
    """
    parts = joined(module)
    for name in [name for name, tensor in module.named_parameters() if tensor.is_meta]:
        value = read(prefix + name)
        kept = kept_dtype(module, name, dtype)
        _check_range(prefix + name, value, kept)
        if part := parts.get(name):
            part.pack(value, device, dtype)
            module.get_parameter(name).copy_(value)
        else:
            assign(module, name, value.to(device=device, dtype=kept))
    module.eval()


def _check_range(name: str, value: Tensor, dtype: torch.dtype) -> None:
    """Raise CheckpointError for a finite value beyond `dtype`: one pass over a tensor that may have one."""
    ends = torch.finfo(dtype).max
    if torch.finfo(value.dtype).max <= ends:
        return
    most = max(abs(float(bound)) for bound in value.aminmax())
    if ends < most < math.inf:
        wider = [format for format, each in FORMATS.items() if most <= torch.finfo(each).max]
        remedy = f"use {' or '.join(wider)}" if wider else "no format here has room for it; download it again"
        format = next(format for format, each in FORMATS.items() if each == dtype)
        raise CheckpointError(
            f"dtype: {format} ends at {ends:,.7g}, and {name} reaches {most:,.7g}; {remedy}"
        )


def assign(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put `tensor` where `module` has the parameter `name`, frozen."""
    owner, _, leaf = name.rpartition(".")
    parameter = nn.Parameter(tensor.contiguous(), requires_grad=False)
    setattr(module.get_submodule(owner), leaf, parameter)
