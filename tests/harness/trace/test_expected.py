"""Expected seconds are the formula's; the trace says of each kernel what kind it is and what bounds it."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from allocations import CARD, cost
from msgspec.structs import replace
from torch.nn import functional

from harness import spans
from harness.trace import expected
from harness.trace.calibration import Calibration, Copy, Product
from harness.trace.expected import Efficiencies, Range
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import KINDS, PS, RESOURCES, Attention, Matmul, StageCosts, Work

SECONDS = {
    "matmul": {"compute": 8.0, "memory": 2.0, "launches": 1.0},
    "convolution": {"compute": 3.0},
    "pointwise": {"memory": 5.0, "launches": 4.0, "link": 7.0},
}


def test_seconds_are_those_at_the_roofline_over_the_efficiency_of_each():
    rest = Efficiencies(Range(0.25, 0.5), "a guess")
    assert rest.expected_s(SECONDS) == (60, 120)  # 30 of all
    measured = {("matmul", "compute"): Range(0.8, 1.0), ("pointwise", "launches"): Range(0.5, 2.0)}
    known = Efficiencies(Range(0.25, 0.5), "a guess", measured)
    assert known.expected_s(SECONDS) == (8 + 2 + 36, 10 + 8 + 72)
    assert known.expected_s({}) == (0, 0)


def test_roofline_and_ideal():
    assert expected.roofline_s(SECONDS) == 30
    assert expected.ideal_s(SECONDS) == 8 + 2 + 3
    assert expected.ideal_s(SECONDS, rate=4, size=0.5) == 2 + 1 + 0.75


@pytest.mark.parametrize(
    ("shares", "low", "high"),
    [
        ((0.4, 0.1, 0.2), 0.05, 0.8),  # one is a deviation: a factor of two, twice
        ((0.2, 0.4), 0.08**0.5 / 2**2**0.5, 0.08**0.5 * 2**2**0.5),
        ((0.3, 0.3), 0.3, 0.3),
        ((0.25, 1.0), 0.5 / 4**2**0.5, 1.0),  # no more than all
    ],
)
def test_a_range_is_two_deviations_of_the_logarithms_on_either_side(shares, low, high):
    assert expected.fitted(shares) == pytest.approx((low, high))


MEASURED = Calibration(
    card="mine", capability="8.9", memory_gib=24, date="2026-01-02", driver="600.1", torch="2.13.0",
    cudnn="9", dtype="bfloat16", context_mib=0, blas_bytes=0, convolution_copies=0,
    launch_us=9.0, kernel_us=1.6, to_card_gb_per_s=20.0, to_host_gb_per_s=22.5,
    products=tuple(
        Product(rows=1, inner=1, columns=1, tflop_per_s=tflop_per_s, gb_per_s=gb_per_s)
        for tflop_per_s, gb_per_s in ((0.5 * 165.2, 10.0), (0.75 * 165.2, 100.0), (8.26, 0.875 * 1008))
    ),
    copies=tuple(Copy(bytes=1, gb_per_s=share * 1008) for share in (0.8, 0.9)),
)  # fmt: skip


def test_what_was_measured_of_a_card_takes_the_place_of_what_is_published():
    """CARD does 165.2 TFLOP/s and 1008 GB/s, 25 over the link; a launch takes 4.5 µs, a kernel 2."""
    own = expected.calibrated(CARD, MEASURED)
    measured = {
        ("matmul", "compute"): (0.5, 0.75),
        ("matmul", "memory"): (0.875, 0.875),
        ("pointwise", "memory"): (0.8, 0.9),
        **{(kind, "launches"): (0.5, 0.5) for kind in KINDS},
        **{(kind, "kernels"): (1.25, 1.25) for kind in KINDS},
        **{(kind, "link"): (0.8, 0.9) for kind in KINDS},
    }
    assert own.measured.keys() == measured.keys()
    for key, ends in measured.items():
        assert own.measured[key] == pytest.approx(ends), key
    assert own.otherwise == expected.PUBLISHED.otherwise
    assert own.basis == f"{MEASURED}; what it has not is {expected.PUBLISHED.basis}"
    assert own.expected_s({"matmul": {"compute": 3.0}}) == pytest.approx((4, 6))
    assert own.expected_s({"attention": {"kernels": 5.0}}) == pytest.approx((4, 4))


def test_what_took_no_time_says_nothing():
    own = expected.calibrated(CARD, replace(MEASURED, launch_us=0.0, kernel_us=0.0))
    assert not any(resource in ("launches", "kernels") for _, resource in own.measured)


@pytest.mark.parametrize("shares", [(), (0.5,)])
def test_one_figure_has_no_range(shares):
    with pytest.raises(ValueError, match="two at least"):
        expected.fitted(shares)


def test_of_many_nineteen_of_twenty_more_are_within():
    draw = random.Random(0)
    seen, more = ([math.exp(draw.gauss(-2, 0.3)) for _ in range(2000)] for _ in range(2))
    low, high = expected.fitted(seen)
    assert sum(low <= share <= high for share in more) / len(more) == pytest.approx(0.954, abs=0.01)


def test_each_kernel_is_of_its_kind():
    with FakeCard(CARD, libraries=CUDA(CARD.capability)) as card, torch.inference_mode():
        x, weight = (
            torch.zeros(size, dtype=torch.bfloat16, device=card.device) for size in ((1, 4, 64), (64, 64))
        )
        heads = torch.zeros(1, 2, 64, 64, dtype=torch.bfloat16, device=card.device)
        kernels = torch.zeros(4, 4, 3, dtype=torch.bfloat16, device=card.device)
        calls = {
            "matmul": (lambda: x @ weight, lambda: functional.linear(x, weight), lambda: torch.bmm(x, x.mT)),
            "attention": (lambda: functional.scaled_dot_product_attention(heads, heads, heads),),
            "convolution": (
                lambda: functional.conv1d(x, kernels),
                lambda: functional.conv_transpose1d(x, kernels),
            ),
            "pointwise": (lambda: x + x, lambda: x.sum(), lambda: functional.silu(x), lambda: x.clone()),
        }
        assert tuple(calls) == KINDS
        for kind, ways in calls.items():
            for call in ways:
                card.tracker.stage_costs.stages.clear()
                call()
                [stage] = card.tracker.stage_costs.stages.values()
                assert {(kind, resource) for resource in RESOURCES} >= stage.ps.keys() > set(), kind


def test_a_kernel_is_booked_where_it_is_bound_however_often_it_counts():
    costs = StageCosts(CARD)
    flop, moved = int(CARD.flop_per_s), int(CARD.bytes_per_s)
    with spans.record(), spans.span("part"):
        costs.charge(Matmul(flop=flop, launches=1))
        with costs.counting(Fraction(3, 2)):
            costs.charge(Attention(read_bytes=moved // 2, written_bytes=moved // 2, launches=1))
            costs.charge(Matmul(flop=flop, launches=1))
        costs.charge(Work(launches=1, to_card_bytes=int(CARD.link_bytes_per_s)))
    [stage] = costs.stages.values()
    assert stage.ps == {
        ("matmul", "compute"): PS * Fraction(5, 2),
        ("attention", "memory"): PS * Fraction(3, 2),
        ("pointwise", "launches"): round(CARD.launch_s * PS),
        ("pointwise", "link"): PS,
    }


def test_what_a_failure_ends_counts_once_beside_what_was_before_it():
    costs = StageCosts(CARD)
    with spans.record(), spans.span("part"):
        costs.charge(Work(launches=3))
        with pytest.raises(ZeroDivisionError), costs.counting(150):
            costs.charge(Work(launches=1))
            raise ZeroDivisionError
    [stage] = costs.stages.values()
    assert stage.total() == Work(launches=4)
    assert stage.bound_ps("launches") == costs.clock.ps == 4 * round(CARD.launch_s * PS)


def test_kinds_are_all_of_the_seconds_also_where_a_layer_is_replayed():
    replayed, traced = cost(), cost(repeat=False)
    assert [stage.kinds for stage in replayed.stages] == [stage.kinds for stage in traced.stages]
    for stage in replayed.stages:
        assert expected.roofline_s(stage.kinds) == pytest.approx(stage.seconds, abs=1e-11)
        by_resource = {
            resource: sum(seconds.get(resource, 0) for seconds in stage.kinds.values())
            for resource in RESOURCES
        }
        assert not stage.seconds or max(by_resource, key=by_resource.__getitem__) == stage.bound_by
        low, high = expected.PUBLISHED.otherwise
        assert stage.expected_s == pytest.approx((stage.seconds / high, stage.seconds / low))
    assert {kind for stage in replayed.stages for kind in stage.kinds} == {*KINDS}
    assert replayed.expected_s.low == pytest.approx(sum(stage.expected_s.low for stage in replayed.running))
    assert replayed.environment["expected"] == expected.PUBLISHED.basis
