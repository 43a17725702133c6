"""The flags of a subject's command that predicts, and the card that they name. No torch import here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness import cards, checks
from harness.cards import Card
from harness.commands import Add
from harness.errors import UsageError
from harness.flags import number, whole


def declare(add: Add, duration_s: float) -> None:
    """The card, the size of the request (`duration_s` where nobody says), and where the prediction goes."""
    add("--card", metavar="NAME", help=f"one of --list-cards ({cards.DEFAULT})")
    add("--device-json", type=Path, metavar="FILE", help="a card of one's own instead, as a JSON object")
    add("--max-vram", type=number, metavar="GB", help="as if it had so much memory")
    add("--list-cards", action="store_true", help="the cards there are")
    add("--duration", dest="duration_s", type=number, default=duration_s, metavar="S", help="(%(default)s)")
    add("--batch-size", type=whole, default=1, metavar="N", help="items (%(default)s)")
    add("--json", type=Path, nargs="?", const=True, metavar="FILE", help="the prediction, or to a file")


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
