"""Fields of a dataclass that say which values they take: default and range in one line.

    @dataclass(frozen=True, slots=True)
    class Song:
        bpm: int | None = whole(None, 30, 300)
        mode: str = choice("major", ("major", "minor"))

        def __post_init__(self) -> None:
            check(self)

A default of None leaves a field open, and so does None in a switch that says so. No torch import here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from harness import checks

CHECK = "check"  # of a field's metadata: value from name and value, or UsageError
ALLOWED = "allowed"  # what is allowed, in words
OPEN = "open"  # whether None is, though it is not the default


def number(default: float | None, low: float, high: float) -> Any:
    """A field for numbers from `low` to `high`."""
    return _field(default, f"{low:.12g} to {high:.12g}", lambda n, v: checks.within(n, v, low, high))


def whole(default: int | None, low: int, high: int) -> Any:
    """A field for whole numbers from `low` to `high`."""
    return _field(default, f"{low} to {high}", lambda n, v: checks.within(n, v, low, high, kind=int))


def switch(default: bool, *, open: bool = False) -> Any:
    """A field for true or false; None leaves an `open` one to somebody else."""
    return _field(default, "true, false", checks.flag, open)


def choice(default: str | int, allowed: Sequence[str | int]) -> Any:
    """A field for one of the words or numbers `allowed`."""
    return _field(default, ", ".join(map(str, allowed)), lambda n, v: checks.one_of(n, v, allowed))


def words(default: str, most_chars: int) -> Any:
    """A field for printable text of bounded length; line ends become plain newlines."""
    return _field(
        default, f"text, at most {most_chars:,} characters", lambda n, v: checks.text(n, v, most_chars)
    )


def allowed(field: dataclasses.Field) -> str:
    """What a field takes, in words; "" where the record itself says it."""
    return field.metadata.get(ALLOWED, "")


def check(record: Any) -> None:
    """Hold every declared field of a new, frozen `record` to its range. Raises UsageError, which names the
    field, the value and what is allowed."""
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        open_value = value is None and (field.default is None or field.metadata.get(OPEN, False))
        if CHECK in field.metadata and not open_value:
            settled = field.metadata[CHECK](field.name, value)
            if settled is not None:
                object.__setattr__(record, field.name, settled)


def _field(default: Any, allowed: str, check: Callable[[str, Any], Any], open: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={CHECK: check, ALLOWED: allowed, OPEN: open})
