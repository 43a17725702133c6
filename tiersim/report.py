"""The table of a run, one row per case as it ends.

Columns start at fixed display columns: `✅` is two cells wide, so padding counts cells, not characters.
"GB" of memory is GiB throughout, as card sizes are.
"""

from __future__ import annotations

import unicodedata

from acestep.gpu_config import GIB, LM_PREFIX
from tiersim.record import Record

COLUMNS = (2, 10, 21, 29, 40, 50, 63)
WIDTH = 100
TITLE = "TIER TEST RESULTS"
MARKS = {"ok": "✅", "skip": "➖"}
FAILED_MARK = "❌"


def header() -> str:
    """Title, rule and column heads."""
    heads = ("VRAM", "Tier", "LM", "Duration", "Status", "Peak", "Notes")
    return "\n".join((TITLE, "=" * WIDTH, place(heads), "  " + "─" * 78))


def row(record: Record) -> str:
    """One case: what was asked, as it ran, and what came of it."""
    peak = "—" if record.peak_bytes is None else f"{record.peak_bytes / GIB:.1f}GB"
    cells = (
        f"{record.requested.tier_gb:g}GB",
        record.tier,
        record.lm.removeprefix(LM_PREFIX) if record.lm else "—",
        f"{record.effective.duration_s:g}s",
        f"{MARKS.get(record.status, FAILED_MARK)} {record.status.upper()}",
        peak,
        record.reason or "; ".join(map(str, record.adjustments)),
    )
    return place(cells)


def footer(records: list[Record]) -> str:
    """Totals, and which limit stood in for the card."""
    count = {status: sum(r.status == status for r in records) for status in ("ok", "skip")}
    failed = len(records) - sum(count.values())
    lines = [
        f"{len(records)} cases: {count['ok']} ok, {failed} failed, {count['skip']} skipped",
        *_caps(records),
    ]
    return "\n".join(lines)


def _caps(records: list[Record]) -> list[str]:
    kinds = sorted({(r.device, r.cap.kind, r.cap.verified, r.peak_source) for r in records if r.cap}, key=str)
    return [
        f"cap on {device}: {kind} ({'verified' if verified else 'not verified'}); peak: {source}"
        + ("; host memory stands in for a card" if device == "cpu" else "")
        for device, kind, verified, source in kinds
    ]


def place(cells: tuple[str, ...]) -> str:
    """Put each cell at its column, at least one space after the one before."""
    line = ""
    for column, cell in zip(COLUMNS, cells, strict=True):
        gap = column - cell_width(line)
        line += " " * (gap if gap > 0 or not line else 1) + cell
    return line.rstrip()


def cell_width(text: str) -> int:
    """Terminal cells of `text`: wide characters take two, joiners and variation selectors none."""
    return sum(
        0
        if unicodedata.combining(c) or c == "\ufe0f"
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )
