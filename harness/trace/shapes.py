"""Results of operators as tensors with shapes and no values, by torch's meta device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness.trace.storage import META
from harness.virtual_card import READ_DEVICE, key_of, tensors

HOST_ONLY = ("generator", "pin_memory")  # arguments that mean nothing without memory

# Results of operators, as size, stride and dtype, by the `_signature` of their arguments.
_inferred: dict[Any, tuple[torch.Size, tuple[int, ...], torch.dtype]] = {}


def infer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of `func`, as tensors with shapes and no values."""
    if names_a_device(func):
        kwargs = kwargs | {"device": META} | {name: None for name in HOST_ONLY if name in kwargs}
    key = (func, _signature(args), _signature(tuple(kwargs.items()))) if _returns_new(func) else None
    if key in _inferred:
        size, stride, dtype = _inferred[key]
        return torch.empty_strided(size, stride, dtype=dtype, device=META)
    args, kwargs = _shapes(args), {name: _shapes(value) for name, value in kwargs.items()}
    output = func(*args, **kwargs)
    if key and _owns_storage(output, (args, kwargs.values())):
        _inferred[key] = output.shape, output.stride(), output.dtype
    return output


def _signature(value: Any) -> Any:
    """The parts of an argument that the shape of a result depends on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.storage_offset()
    if isinstance(value, (tuple, list)):
        return type(value), *map(_signature, value)
    return type(value), value


@cache
def _returns_new(func: Any) -> bool:
    """Whether `func` returns one new tensor: by its schema no view, nothing written in place."""
    schema = func._schema
    aliases = [value.alias_info for value in (*schema.arguments, *schema.returns)]
    return len(schema.returns) == 1 and str(schema.returns[0].type) == "Tensor" and not any(aliases)


def _owns_storage(result: Any, inputs: Any) -> bool:
    """Whether `result` is all of a storage of its own, which not every schema tells."""
    if type(result) is not Tensor or result.storage_offset():
        return False
    like = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device=META)
    same = result.untyped_storage().nbytes() == like.untyped_storage().nbytes()
    return same and all(key_of(result) != key_of(tensor) for tensor in tensors(inputs))


@cache
def names_a_device(func: Any) -> bool:
    """Whether `func` makes a tensor where it is told to."""
    return any(argument.name == "device" for argument in func._schema.arguments)


def _shapes(value: Any) -> Any:
    """An argument with its tensors without values. (torch's own tree_map leaves them to the garbage
    collector, and so alive for longer than they are.)"""
    if isinstance(value, (tuple, list)):
        return type(value)(map(_shapes, value))
    if not isinstance(value, Tensor) or READ_DEVICE(value) == META:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=META)
