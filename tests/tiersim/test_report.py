"""The table's columns, by what a terminal shows."""

import dataclasses

import pytest

from tiersim import Case, Record
from tiersim.record import Cap
from tiersim.report import COLUMNS, cell_width, footer, header, row

OK = Record(
    status="ok",
    reason="",
    requested=Case(8, lm=True),
    effective=Case(8, lm=True),
    tier="tier4",
    class_gb=8.0,
    device="cuda",
    adjustments=(),
    lm="acestep-5Hz-lm-0.6B",
    cap=Cap("cuda-fraction", 2**30, verified=True),
    peak_bytes=int(7.2 * 2**30),
    peak_source="reserved",
)


def test_a_row():
    assert row(OK) == "  8GB     tier4      0.6B    30s        ✅ OK     7.2GB"
    skipped = dataclasses.replace(OK, status="skip", reason="no", lm=None, peak_bytes=None)
    assert row(skipped) == "  8GB     tier4      —       30s        ➖ SKIP   —            no"


@pytest.mark.parametrize("status", ["ok", "oom", "error", "crash", "skip"])
def test_notes_start_at_their_column_whatever_the_mark(status):
    line = row(dataclasses.replace(OK, status=status, reason="note"))
    assert cell_width(line[: line.index("note")]) == COLUMNS[-1]


def test_heads_stand_over_their_columns():
    heads = header().splitlines()[2]
    assert [heads.index(h) for h in ("VRAM", "Tier", "LM", "Duration", "Status", "Peak", "Notes")] == list(
        COLUMNS
    )


def test_the_footer_counts_and_names_the_cap():
    failed = dataclasses.replace(OK, status="oom", device="cpu", cap=Cap("watchdog", 1, verified=False))
    lines = footer([OK, OK, failed]).splitlines()
    assert lines[0] == "3 cases: 2 ok, 1 failed, 0 skipped"
    assert "watchdog (not verified)" in lines[1] and "stands in for a card" in lines[1]
    assert "cuda-fraction (verified)" in lines[2]
