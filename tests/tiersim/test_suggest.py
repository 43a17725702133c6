"""What predictions support of each tier: the search, and the patch to the table."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tier_records import bare_record

import tiersim.__main__ as main
from acestep import gpu_config, tier_patch
from acestep.gpu_config import GUIDE, INT8, PARKED, PLAIN, POLICIES, SAVING, XL
from harness.cards import find
from harness.memory import GIB
from harness.tiers import Supported
from tiersim import Case, command, suggest
from tiersim.boundary import MOST_OF_CARD
from tiersim.case import VARIANTS

ROOT = Path(gpu_config.__file__).parents[1]
CASE = Case(8, card=find("rtx4090"), source="synthetic-tiny")
NEEDS_GB = {"default": 2.0, "no-quant": 4.0, "no-offload": 6.5}  # of a card, before the request


def peak_gb(case: Case) -> float:
    return NEEDS_GB[case.variant] + case.duration_s * case.batch_size / 1200 + case.lm


def predicted(plans):
    def record(case):
        return replace(bare_record(case), peak_bytes=int(peak_gb(case) * GIB), lm="lm" if case.lm else None)

    return [record(plan.requested) for plan in plans]


def supported(tier: str, variant: str | None, *limits, **choices) -> Supported:
    return Supported(tier, "synthetic-tiny", choices, variant, *limits)


def test_of_each_tier_the_least_saving_and_the_largest_request():
    (found,) = suggest.findings([(CASE, (8.0, 10.0))], predicted)
    assert (found.tier.name, found.case.tier_gb) == ("tier4", 8)  # the smallest card of the tier
    assert found.variant == "no-quant"
    assert [(r.requested.lm, r.requested.duration_s) for r in found.shown] == [(False, 360), (True, 240)]
    alone, lm = found.alone.requested, found.with_lm.requested
    assert (alone.duration_s, alone.batch_size) == (600, 4) and (lm.duration_s, lm.batch_size) == (600, 4)
    for case in (alone, lm):
        assert peak_gb(case) <= MOST_OF_CARD * 8 < peak_gb(replace(case, batch_size=8))


@given(st.integers(0, len(suggest.LENGTHS_S)))
def test_the_bisection_finds_the_largest_that_is_held_in_few_predictions(held):
    asked = []
    search = suggest._largest(CASE, "duration_s", suggest.LENGTHS_S)
    try:
        case = next(search)
        while True:
            asked.append(case.duration_s)
            fits = suggest.LENGTHS_S.index(case.duration_s) < held
            case = search.send(replace(bare_record(case), status="ok" if fits else "oom", peak_bytes=1))
    except StopIteration as end:
        found = end.value
    assert len(asked) <= 4
    assert (found and found.requested.duration_s) == (suggest.LENGTHS_S[held - 1] if held else None)


def test_what_is_the_most_of_a_request_is_not_said_to_be_the_cards():
    (found,) = suggest.findings([(CASE, (8.0,))], predicted)
    lines = [line for line in suggest.evidence([found]) if "the most:" in line]
    assert len(lines) == 2
    assert all(line.endswith("left; 600 s: the most of a request, not of the card") for line in lines)
    shorter = replace(
        found, alone=replace(found.alone, requested=replace(found.alone.requested, duration_s=60))
    )
    assert suggest.evidence([shorter])[-2].endswith("left")


def test_a_tier_that_holds_nothing_is_told_and_left(monkeypatch):
    monkeypatch.setitem(NEEDS_GB, "default", 9.0)
    monkeypatch.setitem(NEEDS_GB, "no-quant", 9.0)
    monkeypatch.setitem(NEEDS_GB, "no-offload", 9.0)
    found = suggest.findings([(CASE, (8.0,))], predicted)
    assert (found[0].variant, found[0].alone, found[0].with_lm) == (None, None, None)
    text = suggest.report(found)
    assert "#   no settings hold 30 s, batch 1" in text and text.endswith("# nothing to change")


@pytest.mark.parametrize("name", POLICIES)
def test_every_row_is_written_as_the_patch_writes_it(name):
    lines = (ROOT / tier_patch.FILE).read_text("utf-8").splitlines()
    start = lines.index(f"{tier_patch.TABLES[name]} = (")
    rows = [line for line in lines[start : lines.index(")  # fmt: skip", start)] if "GPUConfig(" in line]
    assert rows == [tier_patch.row(tier) for tier in POLICIES[name].tiers]


def test_the_patch_is_one_that_git_applies_to_the_right_table(tmp_path):
    found = [
        supported("unlimited", "default", 600.0, 8, 480.0, 4),
        supported("tier1", "no-quant", 240.0, 2, None, None),
    ]
    text = tier_patch.patch("upstream-2026", [(of, False) for of in found])
    assert (
        '+    GPUConfig("tier1",     4,        YES, 240, 240, 2, 2, (),     None,   NO,  YES, YES, None'
        in text
    )
    target = tmp_path / tier_patch.FILE
    target.parent.mkdir()
    target.write_bytes((ROOT / tier_patch.FILE).read_bytes())
    done = subprocess.run(["git", "apply", "-"], input=f"# evidence\n{text}", text=True, cwd=tmp_path)
    assert done.returncode == 0
    before, after = (path.read_text("utf-8") for path in (ROOT / tier_patch.FILE, target))
    assert before.partition("TIERS_2026 = (")[0] == after.partition("TIERS_2026 = (")[0]  # the guides' stay
    assert tier_patch.patch(GUIDE, [(supported("tier1", "default", 180.0, 1, None, None), False)]) == ""


@pytest.mark.parametrize(
    ("tier", "variant", "cell"),
    [
        ("tier4", "default", XL(True, INT8)), ("tier4", None, None), ("tier5", "default", SAVING),
        ("tier5", "no-quant", PARKED), ("tier6a", "no-offload", PLAIN),
    ],
)  # fmt: skip
def test_what_is_found_with_xl_is_the_xl_column_alone(tier, variant, cell):
    row = next(row for row in POLICIES[GUIDE].tiers if row.tier == tier)
    changed = tier_patch.changed_xl(row, supported(tier, variant, 600.0, 8, 600.0, 8))
    assert changed == replace(row, xl=cell)


def test_the_command_prints_evidence_and_a_patch(monkeypatch, capsys):
    def run(options, card, stack):
        return lambda plans, on_record: [
            on_record(replace(record, key=plan.key))
            for plan, record in zip(plans, predicted(plans), strict=True)
        ]

    monkeypatch.setattr(command, "_runner", run)
    assert main.main("--suggest --tiers 8 --source synthetic-tiny".split()) == 0
    text = capsys.readouterr().out
    assert "#   no-quant settings hold 240 s, batch 2, LM lm: predicted peak 5.40 of 8 GB, 33% left" in text
    assert (
        text.count("\n+    GPUConfig") == 1
        and 'NO,  600, 600, 4, 4, SMALL,  "0.6B", NO,  YES, YES, None' in text
    )
    for flag in ("--duration 30", "--run", "--strict", "--dry-run", "--with-lm"):
        assert main.main(f"--suggest {flag}".split()) == 2
        assert f"{flag.split()[0]}: has no use beside --suggest" in capsys.readouterr().err
    assert len(VARIANTS) == len(NEEDS_GB)
