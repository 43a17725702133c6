"""Some steps of the language model stand for all of them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from allocations import TINY, cost, setup, song

from acestep.tracing import planning
from acestep.weights.layout import LMS
from acestep.weights.synthetic_configs import CONFIGS
from harness.trace.cost import Cost, StageCost
from harness.trace.libraries import BIAS_STEP

SECONDS = 12
CODES = 5 * SECONDS


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 49, 50, 1199])
def test_trapezoids_are_exact_for_a_line(steps):
    shares = planning.trapezoids(steps)
    assert len(shares) == min(steps, planning.SAMPLED_STEPS)
    assert (shares[0][0], shares[-1][0]) == (1, steps)
    assert sum(times for _, times in shares) == steps
    assert sum(times * (3 + 7 * step) for step, times in shares) == 3 * steps + 7 * steps * (steps + 1) // 2


def test_a_trapezoid_that_leans_the_wrong_way_is_heard():
    """The control: what a plain rule, a share of each end, makes of the same line."""
    at = [step for step, _ in planning.trapezoids(50)]
    plain = sum(Fraction(b - a, 2) * (a + b) for a, b in pairwise(at))
    assert plain != 50 * 51 // 2


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
        patch.setattr(planning, "trapezoids", lambda steps: [(s, Fraction(1)) for s in range(1, steps + 1)])
        return cost(setup(lm=True), song(SECONDS, lm=True))


def test_there_are_five_codes_a_second(sampled, traced):
    assert sampled.counts == traced.counts
    assert sampled.counts["audio_codes"] == sampled.counts["lm_decode_tokens"] == CODES
    assert sampled.counts["lm_decode_steps"] == CODES - 1


def test_a_few_steps_cost_what_all_of_them_do(sampled, traced):
    """But for masks, which a kernel wants padded to a multiple: one that is, is a launch less per layer."""
    some, every = decoding(sampled).work, decoding(traced).work
    layers = CONFIGS[TINY][LMS[0]]["num_hidden_layers"]
    unpadded, rest = divmod(some.launches - every.launches, layers)
    assert rest == 0
    assert abs(unpadded - (CODES - 1) / BIAS_STEP) < 1  # so none of the samples was one
    longest = sampled.counts["lm_prompt_tokens"] + CODES
    mask_bytes = unpadded * layers * 2 * longest * 2  # two rows in bf16
    assert 0 < some.read_bytes - every.read_bytes < mask_bytes < 1e-4 * every.read_bytes
    assert 0 < some.written_bytes - every.written_bytes < mask_bytes < 1e-4 * every.written_bytes
    apart = {"launches": 0, "kernels": 0, "read_bytes": 0, "written_bytes": 0}
    assert some._replace(**apart) == every._replace(**apart)
    assert some.flop > 0


def test_no_other_stage_is_touched(sampled, traced):
    assert [s for s in sampled.stages if s.stage != "lm_decode"] == [
        s for s in traced.stages if s.stage != "lm_decode"
    ]


def test_the_peak_is_that_of_all_steps(sampled, traced):
    some, every = decoding(sampled), decoding(traced)
    assert some.peak_live_bytes == every.peak_live_bytes
    assert some.peak_allocated_bytes == every.peak_allocated_bytes
    assert some.peak_reserved_bytes == every.peak_reserved_bytes
