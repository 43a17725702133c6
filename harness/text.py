"""Text that comes from files, models and users, on its way to a terminal. One function decides what is safe.

Widths are display columns: a Chinese character takes two, a combining mark none.
"""

from __future__ import annotations

import codecs
import re
import shutil

# Control characters, line separators, marks that reverse text, halves of characters: what gives orders
# to a terminal, or cannot be printed at all.
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MAX_CHARS = 2_000  # of one text in a line or a cell
UNBOUNDED = 10_000  # columns of what is no terminal
MAX_PAGE_CHARS = 2**20  # of one that has a page to itself, as a log has

# What a terminal without these characters gets instead, in as many columns.
PLAIN = {
    "—": "-", "─": "-", "→": ">", "≥": "+", "×": "x", "≤": "<", "…": ".", "±": "+", "·": ".", "µ": "u",
    "├": "|", "└": "`", "✅": "+ ", "❌": "x ", "➖": "- ", "⚠": "!", "\ufe0f": " ",
}  # fmt: skip
PLAINLY = "plainly"  # the name of the error handler below


def harmless(text: str, keep: str = "", most: int = MAX_CHARS) -> str:
    """`text` with control characters spelled out, but for those to `keep`, and without the middle of what is
    over `most` characters.

    What a model, a file or a user wrote gives no orders to a terminal, hides or reorders nothing, and fills
    no screen. How an error begins stays, and how it ends, which is what to do.
    """
    if len(text) > most:
        half = most // 2
        left_out = f" ... {len(text) - 2 * half:,} characters ... "
        return harmless(text[:half], keep, most) + left_out + harmless(text[-half:], keep, most)
    return UNSAFE.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )


def counted(number: int, noun: str) -> str:
    """So many of them: 1 commit, 1,200 commits."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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


def columns() -> int:
    """Of the terminal; where there is none, more than any line has."""
    return shutil.get_terminal_size((UNBOUNDED, 24)).columns


def wrapped_below(line: str, width: int, indent: int = 0) -> list[str]:
    """Harmless `line` as it is where it has room, else in lines of at most `width` columns, those after the
    first below its `indent`."""
    from rich.cells import cell_len

    line = harmless(line)
    if cell_len(line) <= width:
        return [line]
    first, *more = wrapped(line[indent:], max(width - indent, 1))
    return [line[:indent] + first, *(f"{'':{indent}}{part}" for part in more)]


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """A likeness of the first character that cannot be encoded, so that tables stay tables, or its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1
    likeness = PLAIN.get(error.object[error.start])
    return codecs.backslashreplace_errors(error) if likeness is None else (likeness, error.end)


codecs.register_error(PLAINLY, _plainly)
