"""One step of the language model stands for all of its kind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from allocations import cost, setup, song

from acestep.tracing import planning
from harness.nn import qwen3
from harness.trace.cost import Cost, StageCost
from harness.trace.stage_costs import Work

SECONDS = 12
CODES = 5 * SECONDS
BLOCK = 16  # in place of hundreds: a song of a few seconds has several kinds of steps


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qwen3, "BLOCK", BLOCK)
        yield


def decoding(found: Cost) -> StageCost:
    (stage,) = (stage for stage in found.stages if stage.stage == "lm_decode")
    return stage


@pytest.fixture(scope="module")
def sampled() -> Cost:
    return cost(setup(lm=True), song(SECONDS, lm=True))


@pytest.fixture(scope="module")
def traced() -> Cost:
    """Every step by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "alike", lambda steps: [(step, 1) for step in steps])
        return cost(setup(lm=True), song(SECONDS, lm=True))


def test_there_are_five_codes_a_second(sampled, traced):
    assert sampled.counts == traced.counts
    assert sampled.counts["audio_codes"] == sampled.counts["lm_decode_tokens"] == CODES
    assert sampled.counts["lm_decode_steps"] == CODES - 1


def test_a_few_steps_cost_what_all_of_them_do(sampled, traced):
    assert decoding(sampled).work == decoding(traced).work
    assert decoding(sampled).seconds == pytest.approx(decoding(traced).seconds, rel=1e-12)
    assert decoding(sampled).work.flop > 0


def test_few_are_run(monkeypatch):
    kinds = []
    alike = planning.alike
    monkeypatch.setattr(planning, "alike", lambda steps: kinds.append(alike(steps)) or kinds[-1])
    cost(setup(lm=True), song(SECONDS, lm=True))
    times = [times for _, times in kinds[0]]
    assert sum(times) == CODES - 1
    assert times[1:-1] == [BLOCK] * (len(times) - 2) and max(times) <= BLOCK < CODES


def test_no_other_stage_is_touched(sampled, traced):
    assert [s for s in sampled.stages if s.stage != "lm_decode"] == [
        s for s in traced.stages if s.stage != "lm_decode"
    ]


def test_the_peak_is_that_of_all_steps(sampled, traced):
    some, every = decoding(sampled), decoding(traced)
    assert some.peak_live_bytes == every.peak_live_bytes
    assert some.peak_allocated_bytes == every.peak_allocated_bytes
    assert some.peak_reserved_bytes == every.peak_reserved_bytes


def test_a_recorded_step_is_one_launch_of_its_kernels(sampled):
    """A song of twice the length has as many launches more as it has codes; compiled there are fewer kernels
    in each."""

    def decoded(seconds: int, *, compile: bool) -> Work:
        run = replace(setup(lm=True), graphs=True, compile=compile)
        return decoding(cost(run, song(seconds, lm=True))).work

    recorded, longer = (decoded(seconds, compile=False) for seconds in (SECONDS, 2 * SECONDS))
    assert longer.launches - recorded.launches == CODES
    called = decoding(sampled).work
    assert recorded.kernels == called.kernels == called.launches > 50 * CODES
    compiled = decoded(SECONDS, compile=True)
    assert compiled.launches == recorded.launches and compiled.kernels < 0.6 * called.kernels
