"""The fit matrix: how much of each card is left by what runs on it, a row for each choice and variant.

Every case that was asked for has a cell, also where several run the same and one record stands for them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness import cards
from harness.memory import GIB
from tiersim.boundary import MOST_OF_CARD
from tiersim.case import Plan, Variant, subject_of
from tiersim.notes import label, lm_size, notes, size_of, with_lm
from tiersim.record import Record

# By the least percentage of the card that is left. Of the last one no limit is raised.
LEVELS = {"ample": 50, "roomy": 25, "enough": round(100 * (1 - MOST_OF_CARD)), "tight": 0}
FULL = "full"  # memory ran out
UNKNOWN = "unknown"  # nothing was learned of the memory


@dataclass(frozen=True, slots=True)
class Cell:
    """A card under a row. `level`: of LEVELS, FULL or UNKNOWN. `story`: the cell in a sentence.

    `key`: of the record it stands for; empty where there is none.
    """

    text: str
    level: str
    story: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Cases that differ in the card alone."""

    lm: bool
    variant: Variant
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        return f"{'LM' if self.lm else 'no LM'}, {self.variant}"


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one choice, length and batch."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """Cards of one size. `card`: one that was sold with it. `lm`: the size of its language model, if one."""

    size_gb: float
    card: str
    lm: str


@dataclass(frozen=True, slots=True)
class FitMatrix:
    """The columns, ascending, and the rows in the order they were asked for."""

    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]

    @property
    def cells(self) -> list[Cell]:
        return [cell for block in self.blocks for row in block.rows for cell in row.cells]


def fit_matrix(plans: Iterable[Plan], records: Mapping[str, Record]) -> FitMatrix:
    """The fit matrix of `plans`. `records`, by key, may lack some: those did not run."""
    blocks: dict[str, dict[tuple[bool, Variant], list[Plan]]] = {}
    for plan in plans:
        case = plan.requested
        blocks.setdefault(size_of(case), {}).setdefault((case.lm, case.variant), []).append(plan)
    every = [plan for rows in blocks.values() for row in rows.values() for plan in row]
    sizes = sorted({plan.requested.tier_gb for plan in every})
    return FitMatrix(
        tuple(_column(size, every) for size in sizes),
        tuple(
            Block(
                name,
                tuple(
                    Row(lm, variant, tuple(_cell(size, row, records) for size in sizes))
                    for (lm, variant), row in rows.items()
                ),
            )
            for name, rows in blocks.items()
        ),
    )


def _column(size_gb: float, plans: Iterable[Plan]) -> Column:
    lms = {plan.settings.lm for plan in plans if plan.requested.tier_gb == size_gb} - {None}
    return Column(size_gb, cards.example(size_gb), lm_size(*lms) if len(lms) == 1 else "")


def _cell(size_gb: float, row: Sequence[Plan], records: Mapping[str, Record]) -> Cell:
    """What a row comes to on a card: of repeats the one that takes most."""
    plans = [plan for plan in row if plan.requested.tier_gb == size_gb]
    case = replace(row[0].requested, tier_gb=size_gb)
    ran = [records[plan.key] for plan in plans if plan.key in records]
    lm = with_lm(plans[0].settings.lm) if plans else "LM" if case.lm else "no LM"
    what = f"{size_gb:g} GB, {lm}, {case.variant}, {size_of(case)}"
    if ran:
        worst = max(ran, key=lambda record: (record.failed, record.peak_bytes or 0))
        text, level, sentence = _verdict(worst)
        return Cell(text, level, f"{what}: {sentence}", worst.key)
    if plans:
        return Cell("not run", UNKNOWN, f"{what}: not run")
    if case.lm and not subject_of(case).tier(case).has_lm:
        return Cell("no LM", UNKNOWN, f"{what}: the tier has no language model")
    return Cell("n/a", UNKNOWN, f"{what}: not asked for")


def _verdict(record: Record) -> tuple[str, str, str]:
    """What is written in a record's cell, its level, and the same as a sentence."""
    more = "; ".join(notes(record))
    if record.status == "skip":
        return "not tried", UNKNOWN, f"not tried, {more}"
    if record.status in ("oom", "host-oom"):
        return "does not fit", FULL, f"does not fit, {more}"
    if record.status != "ok" or record.peak_bytes is None:
        return label(record).lower(), UNKNOWN, ", ".join(filter(None, (record.status, more)))
    size_gb = record.requested.tier_gb
    left = math.floor(100 * (1 - record.peak_bytes / (size_gb * GIB)))
    level = next((name for name, least in LEVELS.items() if left >= least), FULL)
    text = f"{left} %{'*' if label(record) == 'OK*' else ''}"
    peak = f"{record.peak_bytes / GIB:.2f} of {size_gb:g} GB"
    return text, level, f"fits, {', '.join(filter(None, (f'{text} left, peak {peak}', more)))}"
