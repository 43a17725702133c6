"""Expected time: how long kernels take of which a roofline says only how fast they could be at most.

    time of a stage = sum over its kernels of time at the roofline / efficiency

An efficiency is the share of a card's peak that is reached, known as a range and never as one number, by kind
of kernel (matmul, attention, convolution, pointwise) and by the resource that bounds it. Where a card was
calibrated, it is what was measured there; elsewhere it is what published figures have in common.

    efficiencies = PUBLISHED
    efficiencies.expected_s({"matmul": {"compute": 0.05}})    # (0.05 / high, 0.05 / low)

No torch import here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from harness.cards import Card
from harness.trace.stage_costs import KINDS

if TYPE_CHECKING:
    from harness.trace.calibration import Calibration

POINTWISE = "pointwise"

Kinds = Mapping[str, Mapping[str, float]]  # seconds at the roofline, by kind of kernel and resource


class Range(NamedTuple):
    """Both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Efficiencies:
    """`measured` by kind of kernel and resource, `otherwise` that of the rest. `basis`: what they rest on."""

    otherwise: Range
    basis: str
    measured: Mapping[tuple[str, str], Range] = field(default_factory=lambda: MappingProxyType({}))

    def expected_s(self, kinds: Kinds) -> Range:
        """Seconds of kernels that take `kinds` at the roofline."""
        low = high = 0.0
        for kind, resources in kinds.items():
            for resource, roofline_s in resources.items():
                efficiency = self.measured.get((kind, resource), self.otherwise)
                low += roofline_s / efficiency.high
                high += roofline_s / efficiency.low
        return Range(low, high)


def fitted(shares: Sequence[float]) -> Range:
    """The range of which `shares` were observed: two standard deviations of their logarithms on either side
    of the mean, where 19 of 20 lie if these are normal.

    No efficiency is over 1. Raises ValueError for fewer than two.
    """
    if len(shares) < 2:
        raise ValueError(f"{len(shares)} figures have no range; two at least have")
    logs = [math.log(share) for share in shares]
    middle, reach = statistics.fmean(logs), 2 * statistics.stdev(logs)
    return Range(math.exp(middle - reach), min(math.exp(middle + reach), 1.0))


def roofline_s(kinds: Kinds) -> float:
    """Seconds where every kernel is at its roofline."""
    return math.fsum(seconds for resources in kinds.values() for seconds in resources.values())


def ideal_s(kinds: Kinds, rate: float = 1.0, size: float = 1.0) -> float:
    """Seconds below which no implementation is, however it fuses: of products, attention and convolutions.

    Each moves its operands and its result once, or computes for longer. What lies between them costs nothing,
    nor does a launch. `rate`: how many times as fast as in `kinds` its format is computed with, `size`: how
    many times as large its numbers are.
    """
    scale = {"compute": 1 / rate, "memory": size}
    return math.fsum(
        seconds * scale.get(resource, 0.0)
        for kind, resources in kinds.items()
        if kind != POINTWISE
        for resource, seconds in resources.items()
    )


# Fitted to all comparable figures of docs/anchors.toml; `python -m acestep.costs --anchors` does it anew.
# They do not tell kinds of kernels or resources apart: cards and reports differ by more.
PUBLISHED = Efficiencies(Range(0.21, 0.86), "fitted to 8 published figures of eager PyTorch")


def calibrated(card: Card, measured: Calibration) -> Efficiencies:
    """Efficiencies of `card` where it was measured; what was not is as published.

    A product was bound by what it reached the larger share of. Copies stand for pointwise kernels; a launch,
    a small kernel of a graph and the link are those of every kind.
    """
    peak = card.rate(measured.dtype)
    products = [(one.tflop_per_s / peak, one.gb_per_s / card.gb_per_s) for one in measured.products]
    shares = {
        ("matmul", "compute"): [compute for compute, memory in products if compute >= memory],
        ("matmul", "memory"): [memory for compute, memory in products if compute < memory],
        (POINTWISE, "memory"): [copy.gb_per_s / card.gb_per_s for copy in measured.copies],
    }
    link_gb_per_s = measured.to_card_gb_per_s, measured.to_host_gb_per_s
    of_any = {
        "launches": [card.launch_us / measured.launch_us] if measured.launch_us else [],
        "kernels": [card.kernel_us / measured.kernel_us] if measured.kernel_us else [],
        "link": [rate / card.link_gb_per_s for rate in link_gb_per_s],
    }
    shares |= {(kind, resource): reached for kind in KINDS for resource, reached in of_any.items()}
    ranges = {key: Range(min(reached), max(reached)) for key, reached in shares.items() if reached}
    basis = f"{measured}; what it has not is {PUBLISHED.basis}"
    return Efficiencies(PUBLISHED.otherwise, basis, ranges)
