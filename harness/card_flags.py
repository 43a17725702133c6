"""The card of a command that predicts, by its flags. No torch import here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness import cards, checks
from harness.cards import Card
from harness.errors import UsageError


def chosen(name: str | None, file: Path | None, memory_gib: float | None) -> Card:
    """The card of --card or --device-json, `cards.DEFAULT` without either, as large as --max-vram says.

    Raises as `cards.find` and `cards.read` do, and UsageError for both at once or a size that is none.
    """
    if name is not None and file is not None:
        raise UsageError("--card: given together with --device-json; use one of them")
    card = (
        cards.read(file)
        if file is not None
        else cards.find(cards.DEFAULT if name is None else name, cards.OR_A_FILE)
    )
    if memory_gib is None:
        return card
    checks.within("--max-vram", memory_gib, *cards.RANGES["memory_gib"])
    return replace(card, memory_gib=memory_gib)
