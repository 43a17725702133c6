"""Adjustments: where a run departs from its request, a record each, or an error when strict. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One thing that was asked for and is not done that way; `applied` None: it is not done at all."""

    field: str
    requested: Any
    applied: Any
    reason: str

    def __str__(self) -> str:
        instead = "left out" if self.applied is None else f"using {_shown(self.applied)}"
        return f"{self.field}: {_shown(self.requested)} {self.reason}; {instead}"


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
    text = text if text.isprintable() else repr(text)[1:-1]  # lyrics have lines, a message is one
    return text if len(text) <= 60 else f"{text[:20]}...{text[-37:]}"  # of a path the end is the name


class Warned:
    """A plan that says what it does not do as it was asked, and what there is to know of it besides."""

    __slots__ = ()
    adjustments: tuple[Adjustment, ...]
    notes: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each adjustment and note."""
        return (*map(str, self.adjustments), *self.notes)


class Adjustments(list[Adjustment]):
    """Adjustments so far. In strict mode the first is refused."""

    def __init__(self, strict: bool):
        self._strict = strict

    def note(self, field: str, requested: Any, applied: Any, reason: str, *, remedy: str = "") -> None:
        """`remedy`: what to do instead, where it is not to ask for what is applied."""
        adjustment = Adjustment(field, requested, applied, reason)
        if self._strict:
            instead = "leave it out" if applied is None else f"ask for {_shown(applied)}"
            raise UsageError(f"{field}: {_shown(requested)} {reason}; {remedy or instead} (strict)")
        self.append(adjustment)


@dataclass(frozen=True, slots=True)
class Fallback:
    """Something the run could not do as planned and did another way, such as after an out-of-memory."""

    stage: str
    reason: str  # what went wrong, one line
    action: str  # what was done instead

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}; {self.action}"
