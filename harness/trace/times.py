"""Expected seconds of a prediction beside its roofline, and what that is made of. No torch import here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from harness.text import harmless
from harness.trace.cost import Cost, StageCost
from harness.trace.expected import Kinds, Range
from harness.trace.stage_costs import KINDS

COLUMNS = 79
LINK = "link"
WIDTHS = (12, 8, 15, 7, 10, 12, 10, 5)
WIDTHS_LONG = (14, 7, 14, 7, 10, 12, 10, 5)  # where a stage has a longer name
HEADS = (
    ("", "roofline", "expected", "", "of the", "roofline, %", "", ""),
    ("stage", "seconds", "seconds", *KINDS, LINK),
)


def table(cost: Cost, stages: Sequence[StageCost], total: str) -> list[str]:
    """Those `stages` that take time, and all but loading in a line named `total`; 79 columns."""
    rows: list[Sequence[str]] = [*HEADS]
    for stage in stages:
        if stage.seconds:
            rows.append(_row(stage.stage, stage.seconds, stage.expected_s, [stage.kinds]))
    if cost.seconds:
        every = [stage.kinds for stage in cost.running]
        rows.append(_row(total, cost.seconds, cost.expected_s, every))
    widths = WIDTHS_LONG if any(len(row[0]) > WIDTHS[0] for row in rows) else WIDTHS
    return [_aligned(row, widths) for row in rows] + _basis(cost)


def between(expected_s: Range) -> str:
    """Seconds from and to."""
    return f"{short(expected_s.low)}-{short(expected_s.high)}"


def short(seconds: float) -> str:
    """Milliseconds below a hundred seconds, else as few places as six characters have room for."""
    return (
        f"{seconds:.3f}" if seconds < 99.9995 else f"{seconds:.1f}" if seconds < 9999.95 else f"{seconds:.0f}"
    )


def _row(name: str, seconds: float, expected_s: Range, kinds: Sequence[Kinds]) -> tuple[str, ...]:
    shares = (f"{100 * part / seconds:.0f}" for part in _parts(kinds))
    return name, short(seconds), between(expected_s), *shares


def _parts(kinds: Sequence[Kinds]) -> Iterator[float]:
    """Seconds of each kind of kernel, and of the link."""
    parts = dict.fromkeys((*KINDS, LINK), 0.0)
    for stage in kinds:
        for kind, resources in stage.items():
            for resource, seconds in resources.items():
                parts[LINK if resource == LINK else kind] += seconds
    yield from parts.values()


def _aligned(cells: Sequence[str], columns: Sequence[int]) -> str:
    first, *widths = columns
    name, *numbers = cells
    right = (f"{cell:>{width}}" for cell, width in zip(numbers, widths, strict=True))
    return f"{name:<{first}}{''.join(right)}".rstrip()


def _basis(cost: Cost) -> list[str]:
    line = f"expected: {cost.environment['expected']}"
    return textwrap.wrap(harmless(line), COLUMNS, subsequent_indent="  ", break_on_hyphens=False)
