"""Checks of single values, whose messages name the field, the value and what is allowed.

Every function raises UsageError. No torch import here: bad input is refused before paying for one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from os import PathLike, fspath

from harness.errors import UsageError
from harness.reading import plain_newlines

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
MAX_PATH_CHARS = 4_096
MAX_THREADS = 1_024  # torch dies of some ten thousand, without a word


def one_of(name: str, value: object, allowed: Sequence[str | int]) -> None:
    if not any(isinstance(value, type(each)) and value == each for each in allowed):
        words = ", ".join(map(str, allowed))
        raise UsageError(f"{name}: {shown(value)} is not allowed; use one of {words}")


def within(name: str, value: object, low: float, high: float, kind: type = float) -> None:
    number = int if kind is int else (int, float)
    ok = isinstance(value, number) and not isinstance(value, bool)
    if not ok or not low <= value <= high:  # type: ignore[operator]  # no NaN passes a comparison
        noun = "a whole number" if kind is int else "a number"
        raise UsageError(f"{name}: {shown(value)} is not allowed; use {noun} from {low:.12g} to {high:.12g}")


def check_threads(count: int | None) -> None:
    """Of a CPU; None leaves them to torch."""
    if count is not None:
        within("threads", count, 1, MAX_THREADS, kind=int)


def flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise UsageError(f"{name}: {shown(value)} is not allowed; use true or false")


def shown(value: object) -> str:
    """`value` as it would be written, in at most 60 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of 4,300 digits, a list a thousand deep
        return f"<{type(value).__name__} too long to show>"
    return text if len(text) <= 60 else f"{text[:57]}..."


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names with commas between them; beyond `most`, how many more there are."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def did_you_mean(word: str, words: Sequence[str]) -> str:
    """A question that names what of `words` is spelled most like `word`, or "" where nothing is."""
    import difflib

    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean {near[0]}?" if near else ""


def text(name: str, value: object, most: int) -> str:
    """`value` with plain newlines. Raises UsageError unless it is printable text of bounded length."""
    if not isinstance(value, str):
        raise UsageError(f"{name}: {shown(value)} is not text")
    value = plain_newlines(value)
    if len(value) > most:
        raise UsageError(f"{name}: {len(value):,} characters are too many; use at most {most:,}")
    if control := CONTROL.search(value):
        raise UsageError(
            f"{name}: control character U+{ord(control[0]):04X} at position {control.start()}; remove it"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{name}: not valid Unicode at position {error.start}; remove it") from None
    return value


def path(name: str, value: object) -> str:
    place = fspath(value) if isinstance(value, PathLike) else value
    if not isinstance(place, str) or not 0 < len(place) <= MAX_PATH_CHARS or "\0" in place:
        raise UsageError(f"{name}: {shown(value)} is not the path of an audio file")
    return place


def sequence(name: str, value: object, most: int) -> tuple:
    """The values of a list, at most so many; a single value is a list of one."""
    if isinstance(value, (str, PathLike, int, float)):
        return (value,)
    if not isinstance(value, Sequence):
        raise UsageError(f"{name}: {shown(value)} is not a list")
    if len(value) > most:
        raise UsageError(f"{name}: {len(value):,} values are too many; use at most {most}")
    return tuple(value)
