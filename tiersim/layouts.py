"""Layouts of the tables: titles, the heads of columns, and the display column at which each starts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """A table's heads and where they start, as display columns; the last cell takes what is left."""

    title: str
    columns: tuple[int, ...]
    heads: tuple[str, ...]
    rule: int  # cells under the heads


TIERS = Layout(
    "TIER TEST RESULTS",
    (2, 21, 29, 40, 50, 63),
    ("Card", "LM", "Duration", "Status", "Peak VRAM", "Notes"),
    78,
)
PREDICTED_TIERS = Layout(
    "TIER TEST RESULTS",
    (2, 20, 26, 36, 47, 58, 68),
    ("Card", "LM", "Duration", "Status", "Peak VRAM", "Roofline", "Notes"),
    78,
)
WIDE = Layout(
    "TIER TEST RESULTS",
    (2, 21, 32, 44, 49, 58, 67, 76, 82, 89, 96, 102, 111, 121, 132, 145),
    (
        *("Card", "Tier", "Variant", "LM", "LM Model", "Backend", "Offload", "Quant", "Batch"),
        *("Init", "Gen", "Wall(s)", "Peak(GB)", "Status", "Cap", "Notes"),
    ),
    171,
)
PLANS = Layout(
    "TIER TEST CASES",
    (2, 21, 33, 39, 50, 57, 64, 73, 79, 88, 96, 105),
    (
        *("Card", "Variant", "LM", "Duration", "Batch", "Steps", "Offload", "Quant", "Compile"),
        *("Graphs", "Cap", "Notes"),
    ),
    120,
)
NARROW_PLANS = Layout(  # what is no column goes with the notes, below
    PLANS.title,
    (*PLANS.columns[:8], 79),
    (*PLANS.heads[:8], ""),
    78,
)
MINIMA = Layout("BOUNDARY ANALYSIS", (2, 50), ("Capability", "Least Card"), 78)
BATCHES = Layout(
    "BATCH BOUNDARY SUMMARY",
    (2, 20, 39, 50, 71),
    ("Card", "Max Batch (no LM)", "Peak VRAM", "Max Batch (with LM)", "Peak VRAM"),
    78,
)
LIMITS = Layout(
    "CONFIGURED LIMITS",
    (2, 21, 36, 51),
    ("Card", "no LM", "with LM", "Suggestion"),
    78,
)
