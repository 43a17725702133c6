"""Text that comes from files, models and users, on its way to a terminal. One function decides what is safe.

Widths are display columns: a Chinese character takes two, a combining mark none.
"""

from __future__ import annotations

import re

# Control characters, line separators, marks that reverse text, halves of characters: what gives orders
# to a terminal, or cannot be printed at all.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str, keep: str = "") -> str:
    """`text` with control characters spelled out, but for those to `keep`.

    What a model, a file or a user wrote gives no orders to a terminal, and hides or reorders nothing.
    """
    return UNSAFE.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )


def wrapped(text: str, width: int) -> list[str]:
    """Harmless `text` in lines of at most `width` columns, between words where it can be; never none."""
    from rich.cells import cell_len, chop_cells  # heavy for a command that only tells of an error

    lines = [""]
    for word in harmless(text).split():
        room = width - cell_len(lines[-1]) - 1
        if lines[-1] and cell_len(word) <= room:
            lines[-1] += f" {word}"
            continue
        lines += chop_cells(word, width) or [word]  # nothing to chop: a mark alone has no width
    return lines[1:] or [""]
