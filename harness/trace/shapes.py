"""Results of operators as tensors with shapes and no values, by torch's meta device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from harness.trace.storage import META
from harness.virtual_card import READ_DEVICE, key_of, tensors

HOST_ONLY = ("generator", "pin_memory")  # arguments that mean nothing without memory

# Results of operators, each as size, stride and dtype, by the `_signature` of their arguments.
_inferred: dict[Any, tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]] = {}


def infer(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of `func`, as tensors with shapes and no values."""
    if names_a_device(func):
        kwargs = kwargs | {"device": META} | {name: None for name in HOST_ONLY if name in kwargs}
    key = (func, _signature(args), _signature(tuple(kwargs.items()))) if _returns_new(func) else None
    if key in _inferred:
        results = [torch.empty_strided(*size, dtype=dtype, device=META) for *size, dtype in _inferred[key]]
        return results[0] if len(results) == 1 else tuple(results)
    args, kwargs = _shapes(args), {name: _shapes(value) for name, value in kwargs.items()}
    output = func(*args, **kwargs)
    results = output if isinstance(output, tuple) else (output,)
    if key and _own_storages(results, (args, kwargs.values())):
        _inferred[key] = tuple((result.shape, result.stride(), result.dtype) for result in results)
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
    """Whether `func` returns new tensors: by its schema no views, nothing written in place."""
    schema = func._schema
    aliases = [value.alias_info for value in (*schema.arguments, *schema.returns)]
    kinds = {str(value.type) for value in schema.returns}
    return kinds == {"Tensor"} and not any(aliases)


def _own_storages(results: tuple[Any, ...], inputs: Any) -> bool:
    """Whether each of `results` is all of a storage of its own, which not every schema tells."""
    places = {key_of(result) for result in results if isinstance(result, Tensor)}
    return len(places) == len(results) and all(_owns_storage(result, inputs) for result in results)


def _owns_storage(result: Any, inputs: Any) -> bool:
    if type(result) is not Tensor or result.storage_offset():
        return False
    like = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device=META)
    same = result.untyped_storage().nbytes() == like.untyped_storage().nbytes()
    return same and all(key_of(result) != key_of(tensor) for tensor in tensors(inputs))


@cache
def is_composite(func: Any) -> bool:
    """Whether `func` is made of others on any device: `func.decompose` calls them."""
    return func._can_decompose()


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
