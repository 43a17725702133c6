"""The fit matrix as an SVG: whole in itself, of text as text, on a ground of its own in light and dark.

A cell says in words or as a number what its colour says. No two colours look alike, not to the colour-blind
either, and every text stands out from its cell by 4.5 to 1 (WCAG 2, AA).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from harness.page import render
from tiersim.fits import FULL, LEVELS, UNKNOWN, Column, FitMatrix

TEMPLATE = Path(__file__).with_name("fits.svg")
START = b'<svg xmlns="http://www.w3.org/2000/svg" class="fits"'  # of every picture

MARGIN, NAMES, LINE = 16, 124, 18  # in user units, which are pixels where there is room
CELL_WIDTH, CELL_HEIGHT, GAP = 86, 22, 2
HEADS, FIRST = 76, 134  # baselines of the columns' heads and of the first block
LEAST_WIDTH = 640  # for the texts above and below
SWATCH = 124  # of the legend, with its text
SUBTITLE = "How much of the card's memory is left where most of it is used."
LINKED = " Each cell leads to its memory over time."


class Colour(NamedTuple):
    """Of a cell, by what is left of its card."""

    light: str
    dark: str


COLOURS = {
    "ample": Colour("#6aa5d1", "#2271ad"),
    "roomy": Colour("#9cc6e4", "#1b5079"),
    "enough": Colour("#cce2f5", "#16334c"),
    "tight": Colour("#fde3a7", "#4a3e12"),
    FULL: Colour("#f2966d", "#a8431f"),
    UNKNOWN: Colour("#f3f4f6", "#24282e"),
}
NOTE = "* not quite as asked for; the title of the cell says in what"


def svg(matrix: FitMatrix, facts: Sequence[str], links: Mapping[str, str], *, predicted: bool) -> Markup:
    """The picture. `facts`: what it rests on, a line each. `links`: where a cell leads, by its key."""
    title = f"What fits which card, {'predicted' if predicted else 'measured'}"
    blocks, bottom = _blocks(matrix, links)
    starred = [NOTE] if any(cell.text.endswith("*") for cell in matrix.cells) else []
    foot = [*starred, *facts]
    width = max(LEAST_WIDTH, 2 * MARGIN + _x(len(matrix.columns)) - GAP)
    picture = render(
        TEMPLATE,
        title=title,
        summary=_summary(matrix),
        width=width,
        height=bottom + LINE * (len(foot) + 2),
        margin=MARGIN,
        cell_width=CELL_WIDTH,
        cell_height=CELL_HEIGHT,
        colours=COLOURS,
        subtitle=SUBTITLE + (LINKED if links else ""),
        heads=HEADS,
        columns=[_column(number, column) for number, column in enumerate(matrix.columns)],
        blocks=blocks,
        legend=_legend(bottom),
        foot=foot,
        feet=bottom + 2 * LINE,
    )
    return Markup(picture)


def is_picture(head: bytes) -> bool:
    """Whether a file that begins with `head` is a picture that was made here."""
    return head.startswith(START)


def _x(column: int) -> int:
    return NAMES + column * (CELL_WIDTH + GAP)


def _summary(matrix: FitMatrix) -> str:
    count = Counter("fits" if cell.level in LEVELS else cell.text for cell in matrix.cells)
    return f"{len(matrix.cells)} cells: {', '.join(f'{word} {number}' for word, number in count.items())}"


def _column(number: int, column: Column) -> dict[str, Any]:
    lines = [column.card, f"LM {column.lm}" if column.lm else ""]
    return {"x": MARGIN + _x(number), "size": f"{column.size_gb:g} GB", "lines": lines}


def _blocks(matrix: FitMatrix, links: Mapping[str, str]) -> tuple[list[dict[str, Any]], int]:
    """The blocks as they are drawn, and where they end."""
    y, blocks = FIRST, []
    for block in matrix.blocks:
        rows = []
        for number, row in enumerate(block.rows):
            top = y + LINE // 2 + number * (CELL_HEIGHT + GAP)
            cells = [
                {**asdict(cell), "x": MARGIN + _x(column), "link": links.get(cell.key)}
                for column, cell in enumerate(row.cells)
            ]
            rows.append({"name": row.name, "y": top, "cells": cells})
        blocks.append({"name": block.name, "y": y, "rows": rows})
        y += len(rows) * (CELL_HEIGHT + GAP) + 2 * LINE
    return blocks, y


def _legend(y: int) -> list[dict[str, Any]]:
    texts = {level: f"{least} % or more" for level, least in LEVELS.items()}
    texts |= {"tight": f"less than {LEVELS['enough']} %", FULL: "does not fit"}
    return [
        {"level": level, "text": text, "x": MARGIN + number * SWATCH, "y": y}
        for number, (level, text) in enumerate(texts.items())
    ]
