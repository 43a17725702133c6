"""The tables, by what a terminal shows."""

from dataclasses import replace

import pytest
from rich.cells import cell_len
from tier_records import record

from harness.adjustments import Adjustment, Fallback
from harness.cards import find
from tiersim import boundary
from tiersim.case import Case, resolve
from tiersim.layouts import TIERS
from tiersim.notes import label, notes
from tiersim.tables import Report

REPORT = Report(200)
# The guide's example, byte for byte, but that tiers are named by their cards.
GUIDE = """\
TIER TEST RESULTS
====================================================================================================
  Card               LM      Duration   Status    Peak VRAM    Notes
  ──────────────────────────────────────────────────────────────────────────────
  4 GB (GTX 1650)    —       30s        ✅ OK     3.8GB        VAE decoded on CPU
  6 GB (RTX 2060)    —       30s        ✅ OK     5.4GB        Tiled VAE chunk=256
  8 GB (RTX 4060)    0.6B    30s        ✅ OK     7.2GB        vllm backend
  12 GB (RTX 3060)   1.7B    30s        ✅ OK     10.8GB       vllm backend
  16 GB (RTX 4080)   1.7B    30s        ✅ OK     14.5GB       offload enabled
  20 GB (RTX A4500)  1.7B    30s        ✅ OK     17.2GB       no offload
  24 GB (RTX 4090)   4B      30s        ✅ OK     21.3GB       full models on GPU"""
TILED = {"vae_tiles": 3, "vae_tile_frames": 256, "vae_level": 2}
SEVEN = [
    record(4, peak_gb=3.8, counts={"vae_tiles": 6, "vae_tile_frames": 128, "vae_level": 3}),
    record(6, peak_gb=5.4, counts=TILED),
    record(8, peak_gb=7.2, lm=True, counts=TILED),
    record(12, peak_gb=10.8, lm=True),
    record(16, peak_gb=14.5, lm=True),
    record(20, peak_gb=17.2, lm=True),
    record(24, peak_gb=21.3, lm=True),
]


def test_the_guides_table():
    assert "\n".join([REPORT.header(), *map(REPORT.row, SEVEN)]) == GUIDE


@pytest.mark.parametrize("status", ["ok", "oom", "error", "crash", "skip"])
def test_notes_start_at_their_column_whatever_the_mark(status):
    line = REPORT.row(record(8, status, reason="note", counts=TILED))
    note = "Tiled" if status == "ok" else "note"
    assert cell_len(line[: line.index(note)]) == TIERS.columns[-1]


def test_a_cell_too_wide_for_its_column_moves_only_its_neighbour():
    line = REPORT.row(record(8, "host-oom", 7.9, reason="note"))
    assert "❌ HOST-OOM 7.9GB" in line
    assert cell_len(line[: line.index("note")]) == TIERS.columns[-1]


def test_a_run_that_was_not_quite_the_one_asked_for_is_starred():
    clamped = record(4, adjustments=(Adjustment("batch_size", 2, 1, "is over the limit of tier1"),))
    assert (label(clamped), notes(clamped)[0][:10]) == ("OK*", "batch_size")
    fell = record(8, lm=True, environment={"lm_backend": "pt"})
    assert (label(fell), notes(fell)[0]) == ("OK*", "pt backend in place of vllm")
    lacking = record(8, notes=("compile: no",))
    assert (label(lacking), notes(lacking)) == ("OK*", ("compile: no",))
    assert REPORT.row(lacking).split("30s")[1].split() == ["⚠️", "OK*", "—", "compile:", "no"]
    assert label(record(8, fallbacks=(Fallback("vae_decode", "oom", "smaller"),))) == "OK"


def test_what_was_asked_beside_a_tiers_own_settings_leads_the_notes():
    assert REPORT.row(record(8, "oom", variant="no-quant", reason="full")).endswith("no-quant: full")
    assert REPORT.row(record(20, batch_size=4)).endswith("batch 4: no offload")


def test_without_a_display_there_is_ascii():
    report = Report(200, ascii=True)
    lines = [report.header(), *map(report.row, SEVEN), report.row(record(8, "timeout"))]
    assert all(line.isascii() for line in lines)
    card = ["4", "GB", "(GTX", "1650)"]
    assert lines[1].split() == [*card, "-", "30s", "OK", "3.8GB", "VAE", "decoded", "on", "CPU"]
    assert lines[-1].split()[6] == "FAIL"


def test_a_narrow_terminal_wraps_notes_and_moves_no_column():
    wide, narrow = Report(200), Report(80)
    made = record(
        8, "oom", 7.5, reason="512 MiB more were asked for while offloading; 3 MiB were free of 8 GB"
    )
    first, *more = narrow.row(made).splitlines()
    assert len(more) >= 2 and all(line.startswith(" " * 63) for line in more)
    assert " ".join([first, *(line.strip() for line in more)]) == wide.row(made)
    assert all(cell_len(line) <= 80 for line in [*narrow.header().splitlines(), first, *more])


def test_notes_that_have_no_room_beside_the_others_are_below_them():
    report = Report(72, predicted=True)
    long, short = record(8, "oom", 7.5, reason="a reason of more than four words"), record(8, peak_gb=7.5)
    first, below = report.row(long).splitlines()
    assert first.split()[-1] == "—" and below == "    a reason of more than four words"
    assert "\n" not in report.row(short)
    told = [report.footer([long, replace(short, requested=Case(8, card=find("rtx4090")))])]
    tested = [replace(long, quantization=None)]
    told += [report.minima(boundary.minima(tested), "every condition there is " * 4), report.header()]
    assert all(cell_len(line) <= 72 for text in told for line in text.splitlines())


def test_control_characters_of_a_reason_give_no_orders():
    assert "\x1b" not in REPORT.row(record(8, "error", reason="\x1b[2J gone"))


def test_the_wide_table_has_a_head_over_every_cell():
    report = Report(300, wide=True)
    heads = report.header().splitlines()[2]
    line = report.row(record(12, lm=True, peak_gb=10.8, environment={"lm_backend": "vllm"}))
    cells = {"Tier": "tier5", "Variant": "default", "LM Model": "1.7B", "Backend": "vllm",
             "Offload": "models", "Quant": "int8", "Init": "OK", "Gen": "OK",
             "Wall(s)": "12.50", "Peak(GB)": "10.80"}  # fmt: skip
    assert {head: line[heads.index(head) :].split()[0] for head in cells} == cells
    failed = report.row(record(12, "oom", phase_reached="load"))
    assert failed[heads.index("Init") :].split()[:2] == ["FAIL", "—"]
    loaded = report.row(record(12, "oom", phase_reached="diffuse"))
    assert loaded[heads.index("Init") :].split()[:2] == ["OK", "FAIL"]


def test_the_plan_of_a_run():
    cases = [
        Case(8, lm=True, source="synthetic-tiny", cap="virtual"),
        Case(4, variant="no-offload", cap="virtual"),
    ]
    text = Report(300).plans([resolve(case) for case in cases])
    assert text.startswith("TIER TEST CASES\n")
    assert "0.6B" in text and "SKIP not tried below 8 GB" in text


def test_the_footer_names_a_preset_that_does_not_go_without_saying():
    plain, counts = record(8), "1 case: 1 ok, 0 failed, 0 skipped"
    other = replace(plain, requested=replace(plain.requested, preset="upstream"))
    totals = [REPORT.footer([each]).splitlines()[0] for each in (plain, other)]
    assert totals == [counts, f"{counts}, preset upstream"]


def test_the_footer_counts_and_names_the_cap():
    card = record(8)
    stand_in = replace(record(8, "oom"), device="cpu")
    lines = REPORT.footer([card, card, stand_in]).splitlines()
    assert lines[0] == "3 cases: 2 ok, 1 failed, 0 skipped"
    assert "a simulated card" in lines[1] and "simulated" not in lines[2]
    assert "cuda-fraction (verified)" in lines[2]


def test_the_boundary_analysis():
    tested = [record(6, "oom", 5.9, variant="no-quant"), record(8, peak_gb=7.1, variant="no-quant"),
              record(8, "crash", variant="no-offload"), record(24, peak_gb=9)]  # fmt: skip
    assert (
        REPORT.minima(boundary.minima(tested), "tiny")
        == """\
BOUNDARY ANALYSIS
====================================================================================================
  Capability                                      Least Card
  ──────────────────────────────────────────────────────────────────────────────
  Without INT8 Quantization                       8 GB (RTX 4060)
  Without CPU Offload (and no quantization)       ≤ 24 GB (RTX 4090)

  Without INT8 Quantization
    minimum: 8 GB (RTX 4060); peak 7.1GB
    last failure: 6 GB (RTX 2060): it was oom
  Without CPU Offload (and no quantization)
    at most 24 GB (RTX 4090), of 8 GB (RTX 4060) nothing was learned; peak 9.0GB
    unknown: 8 GB (RTX 4060) crash: it was crash
  Holds for: tiny"""
    )


def test_the_batch_boundary():
    tested = [record(8, peak_gb=4, batch_size=1), record(8, peak_gb=6, batch_size=2),
              record(8, "oom", batch_size=4), record(8, "oom", batch_size=1, lm=True),
              record(4, "oom", batch_size=1), record(24, peak_gb=9, batch_size=16)]  # fmt: skip
    ladders = boundary.ladders(tested)
    assert (
        REPORT.batches(ladders, boundary.batch_limits(ladders), "tiny")
        == """\
BATCH BOUNDARY SUMMARY
====================================================================================================
  Card              Max Batch (no LM)  Peak VRAM  Max Batch (with LM)  Peak VRAM
  ──────────────────────────────────────────────────────────────────────────────
  4 GB (GTX 1650)   FAIL               —          N/A                  —
  8 GB (RTX 4060)   2                  6.0GB      FAIL                 —
  24 GB (RTX 4090)  ≥ 16               9.0GB      N/A                  —

CONFIGURED LIMITS
====================================================================================================
  Card               no LM          with LM        Suggestion
  ──────────────────────────────────────────────────────────────────────────────
  4 GB (GTX 1650)    1, found FAIL  N/A            no_lm: 1→0
  8 GB (RTX 4060)    4, found 2     2, found FAIL  no_lm: 4→2, lm: 2→0
  24 GB (RTX 4090)   8, found ≥ 16  N/A            OK

  Holds for: tiny"""
    )


@pytest.mark.parametrize("width", [80, 104, 120])
def test_what_would_run_fits_the_terminal_and_nothing_of_it_is_left_out(width):
    plan = resolve(Case(8, lm=True, variant="no-offload", source="synthetic-tiny", card=find("rtx4060")))
    lines = Report(width).plans([plan]).splitlines()
    assert max(map(cell_len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert "no-offload" in words and ("Graphs" in words or "steps as graphs; predicted" in words)
