"""Checks of single values, whose messages name the field, the value and what is allowed.

Every function raises UsageError. No torch import here: bad input is refused before paying for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike, fspath

from acestep.errors import UsageError

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tab and newline


def one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UsageError(f"{name}: {shown(value)} is not allowed; use one of {', '.join(allowed)}")


def within(name: str, value: object, low: float, high: float, kind: type = float) -> None:
    number = int if kind is int else (int, float)
    ok = isinstance(value, number) and not isinstance(value, bool)
    if not ok or not low <= value <= high:  # type: ignore[operator]  # no NaN passes a comparison
        noun = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name}: {shown(value)} is not allowed; use {noun} from {low:g} to {high:g}")


def flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{name}: {shown(value)} is not allowed; use true or false")


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def text(name: str, value: object, most: int) -> str:
    """`value` with plain newlines. Raises UsageError unless it is printable text of bounded length."""
    if not isinstance(value, str):
        raise UsageError(f"{name}: {shown(value)} is not text")
    value = value.replace("\r\n", "\n")
    if len(value) > most:
        raise UsageError(f"{name}: {len(value):,} characters are too many; use at most {most:,}")
    if found := CONTROL.search(value):
        raise UsageError(
            f"{name}: control character U+{ord(found[0]):04X} at position {found.start()}; remove it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}: not valid Unicode at position {error.start}; remove it") from None
    return value


def path(name: str, value: object) -> str:
    if not isinstance(value, (str, PathLike)) or not fspath(value) or "\0" in str(fspath(value)):
        raise UsageError(f"{name}: {shown(value)} is not the path of an audio file")
    return str(fspath(value))


def sequence(name: str, value: object) -> tuple:
    """A single value as a tuple of one."""
    if isinstance(value, (str, PathLike, int, float)):
        return (value,)
    if not isinstance(value, Sequence):
        raise UsageError(f"{name}: {shown(value)} is not a list")
    return tuple(value)
