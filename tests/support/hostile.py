"""Values that no configuration should hold, and files that are none; what a schema says of a value."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from harness.nn.config import Schema

DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]

VALUES: dict[str, Any] = {
    "negative": -1,
    "zero": 0,
    "huge": 10**9,
    "a word too long": 2**63,
    "longer than any float": 10**400,
    "longer than Python reads": int("9" * 4000) * 10**1000,
    "fraction": 1.5,
    "tiny": 1e-300,
    "not a number": float("nan"),
    "infinite": float("inf"),
    "true": True,
    "null": None,
    "text": "four",
    "no text": "",
    "long text": "x" * 10**6,
    "orders to a terminal": "\x1b]0;x\x07\u202e",
    "an empty list": [],
    "a list": [-1, 2],
    "a long list": [2] * 10**5,
    "an object": {"a": {"b": [1]}},
    "deep": DEEP,
}
ABSENT = object()


def fits(kind: inspect.Type, value: object) -> bool:
    """Whether a schema allows `value`, decided by the schema alone."""
    match kind:
        case inspect.IntType(ge=low, le=high, multiple_of=step):
            return type(value) is int and low <= value <= high and value % (step or 1) == 0
        case inspect.FloatType(ge=low, le=high):
            return type(value) in (int, float) and low <= value <= high
        case inspect.LiteralType(values=values):
            return any(type(value) is type(other) and value == other for other in values)
        case inspect.ListType(item_type=item, min_length=least, max_length=most):
            return type(value) is list and least <= len(value) <= most and all(fits(item, v) for v in value)
        case inspect.UnionType(types=kinds):
            return any(fits(other, value) for other in kinds)
        case inspect.BoolType():
            return type(value) is bool
        case inspect.NoneType():
            return value is None
    raise TypeError(kind)


def hostile_fields(schema: type[Schema], right: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Of each field each value that is not allowed in it, itself or in its list: field, name, the whole."""
    for field in msgspec.structs.fields(schema):
        kind = inspect.type_info(field.type)
        if field.required:
            yield field.name, "missing", {k: v for k, v in right.items() if k != field.name}
        for name, value in VALUES.items():
            if not fits(kind, value):
                yield field.name, name, right | {field.name: value}
            if isinstance(kind, inspect.ListType) and not fits(kind.item_type, value):
                yield (
                    field.name,
                    f"{name} in the list",
                    right | {field.name: [*right[field.name][:-1], value]},
                )


def schemas(kind: type[Schema] = Schema) -> set[type[Schema]]:
    """`kind`, and every record of a checkpoint's file made of it, of the modules that are imported."""
    return {kind}.union(*map(schemas, kind.__subclasses__()))


def unbounded(kind: inspect.Type) -> bool:
    """Whether a type admits values without end."""
    match kind:
        case inspect.IntType(ge=low, le=high) | inspect.FloatType(ge=low, le=high):
            return low is None or high is None
        case inspect.ListType(item_type=item, max_length=most):
            return most is None or unbounded(item)
        case inspect.UnionType(types=kinds):
            return any(map(unbounded, kinds))
    return not isinstance(kind, (inspect.LiteralType, inspect.BoolType, inspect.NoneType))


def sparse(path: Path) -> None:
    """A file of a terabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(2**40)


# What may stand in a file's place. None of it can be read to its end.
NO_FILES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a terabyte": sparse,
    "an empty file": Path.touch,
    "noise": lambda path: path.write_bytes(b"\xff\x00\x9b" * 1000) and None,
}
