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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from harness.cards import Card
from harness.trace.stage_costs import KINDS

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
    """The range of which `shares` were observed: the smallest that has them all, and a gap on either side.

    The extremes of n draws that are uniform on a logarithmic scale stay short of its ends by 1 / (n - 1) of
    their distance, in the mean. No efficiency is over 1. Raises ValueError for fewer than two.
    """
    if len(shares) < 2:
        raise ValueError(f"{len(shares)} figures have no range; two at least have")
    low, high = min(shares), max(shares)
    gap = (high / low) ** (1 / (len(shares) - 1))
    return Range(low / gap, min(high * gap, 1.0))


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
PUBLISHED = Efficiencies(Range(0.24, 0.83), "fitted to 8 published figures of eager PyTorch")


def calibrated(
    card: Card,
    products: Sequence[tuple[float, float]],
    dtype: str,
    copies_gb_per_s: Sequence[float],
    launch_us: float,
    basis: str,
) -> Efficiencies:
    """Efficiencies of `card` where it was measured; what was not is as published.

    `products`: TFLOP/s and GB/s of each matrix product in `dtype` (torch's name); it was bound by what it
    reached the larger share of. Copies stand for pointwise kernels.
    """
    peak = card.rate(dtype)
    shares = [(tflop_per_s / peak, gb_per_s / card.gb_per_s) for tflop_per_s, gb_per_s in products]
    by_resource = {
        ("matmul", "compute"): [compute for compute, memory in shares if compute >= memory],
        ("matmul", "memory"): [memory for compute, memory in shares if compute < memory],
        (POINTWISE, "memory"): [gb_per_s / card.gb_per_s for gb_per_s in copies_gb_per_s],
    }
    by_resource |= {(kind, "launches"): [card.launch_us / launch_us] for kind in KINDS if launch_us}
    measured = {key: Range(min(seen), max(seen)) for key, seen in by_resource.items() if seen}
    return Efficiencies(PUBLISHED.otherwise, f"{basis}; what it has not is {PUBLISHED.basis}", measured)
