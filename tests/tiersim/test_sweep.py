"""Which cases are run, and that none is run twice."""

from dataclasses import replace

import pytest

from harness import accelerators
from harness.accelerators import Accelerator
from tiersim import Case
from tiersim.case import VARIANTS, resolve, subject_of
from tiersim.case_runner import CaseRunner
from tiersim.run import run_case
from tiersim.sweep import by_key, cases, climb, rungs

BASE = Case(4, source="synthetic-tiny", duration_s=10)
BATCHES = (1, 2, 4, 8)
SIZES = subject_of(BASE).tested_gb({})


@pytest.fixture
def card(monkeypatch):
    """A machine with an 80 GB card and everything the tiers ask for."""
    found = Accelerator("cuda", "H100", 79.6)
    monkeypatch.setattr(accelerators, "detect", lambda *_: found)
    monkeypatch.setattr("acestep.choices.unquantized", lambda *_: None)
    monkeypatch.setattr("acestep.choices.uncompiled", lambda *_: None)
    return found


def how(settings):
    return settings.quantization, settings.offload_to_cpu, settings.offload_dit_to_cpu


def unique(some):
    return list(by_key(map(resolve, some)).values())


@pytest.fixture
def skipped():
    """A record of nothing, to make others from."""
    return run_case(replace(BASE, lm=True))


def test_the_language_model_is_loaded_where_the_tier_has_one():
    found = cases(BASE, (12, 4, 8, 8.0), with_lm=True, variants=("default",))
    assert [(case.tier_gb, case.lm) for case in found] == [(4, False), (8, True), (12, True)]
    assert not any(case.lm for case in cases(BASE, SIZES, with_lm=False, variants=VARIANTS))


def test_the_variants_of_the_guide(card):
    ran = unique(cases(BASE, SIZES, with_lm=False, variants=VARIANTS))
    by_tier = {
        size: [plan.requested.variant for plan in ran if plan.requested.tier_gb == size] for size in SIZES
    }
    assert by_tier == {size: list(VARIANTS) if size < 20 else ["default"] for size in SIZES}
    assert [plan.requested.tier_gb for plan in ran if plan.skip] == [4, 6]
    eight = {plan.requested.variant: how(plan.settings) for plan in ran if plan.requested.tier_gb == 8}
    assert eight == {"default": ("int8_weight_only", True, True), "no-quant": (None, True, True),
                     "no-offload": (None, False, False)}  # fmt: skip


def test_what_would_run_the_same_is_run_once():
    same = [BASE, replace(BASE, timeout_s=5), replace(BASE, no_limits=True), replace(BASE, batch_size=2)]
    assert len(unique(same)) == 1  # tier1 takes one item
    assert (
        len(unique([BASE, replace(BASE, repeat=1), replace(BASE, tier_gb=4.5), replace(BASE, lm=True)])) == 4
    )


def test_compilation_is_skipped_where_nothing_is_quantized(card):
    compiled = {
        size: resolve(replace(BASE, tier_gb=size, skip_compile=True)).settings.compile for size in (8, 24)
    }
    assert compiled == {8: True, 24: False}
    assert resolve(replace(BASE, tier_gb=24)).settings.compile


def climbed(fails, batches=BATCHES):
    """Climb on cards of 6 and 8 GB; `fails(case)` says which do not pass. Gives what was run."""
    ran = []

    def run(plans):
        rung = [plan.requested for plan in plans]
        ran.extend(rung)
        return [replace(template, requested=case, status="oom" if fails(case) else "ok") for case in rung]

    template = run_case(replace(BASE, lm=True))
    records = climb([list(map(resolve, rung)) for rung in rungs(BASE, (8, 6), batches)], run)
    assert [record.requested for record in records] == ran
    return [(case.tier_gb, case.lm, case.batch_size) for case in ran]


def test_every_card_climbs_until_it_falls():
    assert climbed(lambda case: case.batch_size > case.tier_gb / 4) == [
        *((6, False, 1), (8, False, 1), (8, True, 1)),
        *((6, False, 2), (8, False, 2), (8, True, 2)),
        *((8, False, 4), (8, True, 4)),
    ]
    assert climbed(lambda case: case.lm) == [
        *((6, False, 1), (8, False, 1), (8, True, 1), (6, False, 2), (8, False, 2)),
        *((6, False, 4), (8, False, 4), (6, False, 8), (8, False, 8)),
    ]


def test_the_climb_is_over_the_limits_of_the_tier():
    (plan,) = [resolve(case) for case in [replace(BASE, batch_size=8, no_limits=True)]]
    assert plan.effective.batch_size == 8 and not plan.adjustments


def test_a_tier_test_runs_each_configuration_once_and_answers_for_every_case(skipped):
    ran, shown = [], []

    def runner(plans, on_record):
        for plan in plans:
            ran.append(plan.requested)
            on_record(replace(skipped, requested=plan.requested, status="ok", key=plan.key))

    case_runner = CaseRunner(runner, shown.append)
    first = case_runner.run([resolve(BASE), resolve(replace(BASE, batch_size=2))])
    assert [record.requested.batch_size for record in first] == [1, 2]
    assert case_runner.run([resolve(replace(BASE, no_limits=True))])[0].requested.no_limits
    assert ran == [BASE] and len(shown) == len(case_runner.records) == 1
