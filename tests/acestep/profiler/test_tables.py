"""Tables to the byte, and properties that hold for any figures and any text."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from acestep.profiler.tables import (
    Breakdown,
    apportion,
    benchmark_head,
    benchmark_row,
    facts_block,
    llm_debug,
    tree,
    words,
)
from acestep.result import Counts
from harness.text import harmless, wrapped

GUIDE_TREE = """\
TIME COSTS BREAKDOWN
====================================================================================================
  Component                          Time (s)       % of Total
  ─────────────────────────────────────────────────────────────
  LLM Planning (total)               2.91           45.2%
    ├─ Token generation              2.45           38.1%
    ├─ Constrained decoding          0.31            4.8%
    └─ CFG overhead                  0.15            2.3%
  DiT Diffusion (total)              1.89           29.4%
    ├─ Per-step average              0.24            —
    └─ Steps                         8               —
  VAE Decode                         0.52            8.1%
  Audio Save                         0.12            1.9%
  Other / Overhead                   0.99           15.4%
  ─────────────────────────────────────────────────────────────
  Wall Time (total)                  6.43          100.0%"""

GUIDE_TABLE = """\
Duration   Batch   Think   Steps   Wall(s)    LM(s)      DiT(s)     VAE(s)     Status
--------------------------------------------------------------------------------------------------------------------------
30         1       False   8       3.21       0.45       1.89       0.52       OK
30         1       True    8       5.67       2.91       1.89       0.52       OK
60         2       False   16      12.34      0.48       9.12       1.85       OK"""

GUIDE = Breakdown(6.43, 1.89, 8, 0.52, 0.12, token_generation_s=2.45, constrained_s=0.31, cfg_s=0.15)
ANSWER = {
    "caption": "a waltz",
    "lyrics": "one\ntwo\n\nthree",
    "bpm": 120,
    "duration": None,
    "keyscale": "C major",
    "language": "en",
    "timesignature": "3",
    "instrumental": False,
}

seconds = st.floats(0, 1e6)
parts = st.lists(st.floats(0, 1e12), max_size=12)


def percents(text: str) -> list[int]:
    """Tenths of a percent of each row that has them, the wall's last."""
    return [round(10 * float(line[-6:-1])) for line in text.splitlines() if line.endswith("%")]


def test_the_tree_is_the_guides():
    assert tree(GUIDE) == GUIDE_TREE


def test_the_table_is_the_guides():
    rows = [
        benchmark_row(30, 1, False, 8, 3.21, 0.45, 1.89, 0.52, "OK"),
        benchmark_row(30, 1, True, 8, 5.67, 2.91, 1.89, 0.52, "OK"),
        benchmark_row(60, 2, False, 16, 12.34, 0.48, 9.12, 1.85, "OK"),
    ]
    assert "\n".join([benchmark_head(), *rows]) == GUIDE_TABLE


def test_a_tree_without_planning():
    text = tree(Breakdown(3.0, 1.5, 8, 1.0, 0.2))
    assert "LLM" not in text
    assert percents(text) == [500, 333, 67, 100, 1000]


def test_text_and_conditioning_are_told_apart_below_what_the_guide_has():
    of = replace(GUIDE, text_s=0.40, condition_s=0.25)
    *before, other, text, condition, rest, rule, wall = tree(of).splitlines()
    assert [*before, other, rule, wall] == GUIDE_TREE.splitlines()  # whose lines stay as they are
    assert [line.split()[1:-2] for line in (text, condition, rest)] == [
        ["Text", "encoding"], ["Conditioning"], ["Everything", "else"],
    ]  # fmt: skip
    assert [line.split()[-2] for line in (text, condition, rest)] == ["0.40", "0.25", "0.34"]
    assert sum(percents("\n".join((text, condition, rest)))) == percents(other)[0] == 154


def test_a_narrow_terminal_shortens_the_rules_only():
    full, narrow = tree(GUIDE).splitlines(), tree(GUIDE, 60).splitlines()
    assert max(map(cell_len, narrow)) <= 62  # the head of the guide's percent column
    assert all(a == b or set(a.strip()) <= set("=─") for a, b in zip(full, narrow, strict=True))
    assert benchmark_head(80).splitlines()[1] == "-" * 80


def test_a_narrow_terminal_has_the_benchmarks_columns_closer_and_the_status_below_itself():
    size, times = (600, 16, True, 200), (98765.43, 1234.56, 90000.0, 7530.9)
    row = benchmark_row(*size, *times, "OOM CLAMPED THROTTLED", 99.5, 80)
    first, *more = row.splitlines()
    head = benchmark_head(80).splitlines()[0]
    assert max(map(cell_len, (head, first, *more))) <= 80
    assert first.split()[:8] == ["600", "16", "True", "200", "98765.43", "1234.56", "90000.00", "7530.90"]
    assert {line.index(line.split()[0]) for line in more} == {head.index("Status")}
    assert " ".join(row.split()[8:]) == "OOM CLAMPED THROTTLED ± 99.50"
    assert cell_len(benchmark_row(*size, *times, "OOM")) > 80  # the control: the guide's columns


@given(st.integers(0, 1000), parts)
def test_shares_are_exact_values_rounded_and_sum_to_the_whole(total, of):
    shares = apportion(total, of)
    whole = math.fsum(of)
    assert sum(shares) == (total if whole > 0 else 0)
    for share, part in zip(shares, of, strict=True):
        assert share >= 0
        assert not whole or abs(share - part / whole * total) < 1 + 1e-9


@given(st.floats(1e-3, 1e6), seconds, st.integers(1, 200), seconds, seconds, st.tuples(*[seconds] * 3))
def test_percentages_add_up(extra, diffusion, steps, vae, save, planning):
    token, constrained, cfg = planning
    wall = extra + diffusion + vae + save + sum(planning)
    text = tree(Breakdown(wall, diffusion, steps, vae, save, token, constrained, cfg))
    lm, *children, dit, decoded, saved, other, total = percents(text)
    assert total == 1000
    assert sum(children) == lm
    assert lm + dit + decoded + saved + other == 1000
    assert min(lm, *children, dit, decoded, saved, other) >= 0


def test_parts_longer_than_the_wall_leave_nothing_over():
    breakdown = Breakdown(1.0, 0.7, 8, 0.4, 0.0)
    assert breakdown.other_s == 0
    assert sum(percents(tree(breakdown))[:-1]) == 1000


def test_a_failed_row_keeps_its_columns():
    row = benchmark_row(240, 4, True, 16, None, None, None, None, "OOM")
    head = benchmark_head().splitlines()[0]
    assert [row.index("OOM"), row.index("—")] == [head.index("Status"), head.index("Wall(s)")]


def test_a_length_that_the_language_model_decides_is_no_number():
    row = benchmark_row(None, 4, True, 16, None, None, None, None, "OOM")
    assert row.split()[:4] == ["—", "4", "True", "16"]


def test_spread_stands_after_the_status():
    plain = benchmark_row(30, 1, False, 8, 3.21, 0.0, 1.89, 0.52, "OK")
    assert benchmark_row(30, 1, False, 8, 3.21, 0.0, 1.89, 0.52, "OK", 0.123) == f"{plain}  ± 0.12"


def test_what_the_language_model_did():
    counts = Counts(
        lm_prompt_tokens=1200,
        lm_prefill_tokens=700,
        lm_decode_tokens=150,
        lm_decode_steps=149,
        audio_codes=150,
    )
    text = llm_debug(counts, 0.1, 1.5, 0.08, 0.4)
    values = dict(line.strip().split("  ", 1) for line in text.splitlines()[2:])
    assert {name: value.strip() for name, value in values.items()} == {
        "Prompt tokens": "1200, 700 of them computed",
        "New tokens": "150 in 149 steps",
        "Audio codes": "150 = 30 s of audio",
        "Prefill": "7000.0 tokens/s",
        "Decode": "100.0 tokens/s",
        "Per token": "10.00 ms",
        "Constrained decoding": "5.0% of planning",
        "CFG overhead": "25.0% of planning",
    }


def test_a_language_model_that_did_nothing_has_no_rates():
    text = llm_debug(Counts(), 0.0, 0.0, 0.0, 0.0)
    assert text.count("—") == 5


def test_what_a_text_mode_answered():
    text = words("create_sample", 1.23456, ANSWER)
    assert text.splitlines() == [
        "CREATE_SAMPLE RESULTS",
        "=" * 80,
        "  Wall time               1.235s",
        "  Success                 True",
        "  Caption                 a waltz",
        "  BPM / Duration / Key    120 / — / C major",
        "  Language / Time Sig     en / 3",
        "  Instrumental            False",
        "  Lyrics                  one / two / three",
    ]


def test_each_text_mode_shows_its_own_fields():
    assert "Lyrics" not in words("format_sample", 1.0, ANSWER)
    assert "Instrumental" not in words("understand", 1.0, ANSWER)
    failed = words("understand", None, None, "no \x1b[2J memory")
    assert failed.splitlines()[-3:] == [
        "  Wall time               —",
        "  Success                 False",
        r"  Error                   no \x1b[2J memory",
    ]


def test_long_text_is_shown_by_its_beginning():
    text = words("format_sample", 1.0, ANSWER | {"caption": "x" * 101}, width=200)
    assert f" {'x' * 100}…" in text


@given(st.text(st.characters(categories=["Cc", "Cs", "Cf", "Lo", "Ll", "Zl", "Zp", "Mn"])))
def test_no_text_gives_orders_to_a_terminal(text):
    block = words("create_sample", 1.0, ANSWER | {"caption": text, "lyrics": text, "keyscale": text})
    block.encode()
    lines = block.split("\n")
    assert all(line.isprintable() or not set(line) & set("\x1b\x07\x08\r\x9b\u202e\u2028") for line in lines)
    assert lines[0] == "CREATE_SAMPLE RESULTS"
    assert all(line.startswith("  ") for line in lines[2:])


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\rb", "\u202egnp.exe", "\x9b2J", "\ud800", "\t"])
def test_orders_are_spelled_out(text):
    spelled = harmless(text)
    assert spelled.isprintable()
    assert spelled != text


def test_joined_characters_stay_joined():
    assert harmless("👩‍🎤 ক্‍ষ é 漢字") == "👩‍🎤 ক্‍ষ é 漢字"


@given(st.lists(st.text("aé漢\u0301👍", min_size=1, max_size=60), max_size=8), st.integers(20, 60))
def test_lines_keep_within_display_columns(text, width):
    lines = wrapped(" ".join(text), width)
    assert max(map(cell_len, lines)) <= width
    assert "".join(lines).replace(" ", "") == "".join(text)


@given(st.text("漢a字b ", max_size=90), st.integers(46, 120))
def test_wide_characters_keep_the_columns(text, width):
    block = facts_block("T", {"Caption": text, "Key": "C"}, width).splitlines()
    assert block[-1] == f"  {'Key':<24}C"
    for line in block[2:-1]:
        assert cell_len(line) <= width
        assert line[26:27] not in ("", " ") or not text.strip()
