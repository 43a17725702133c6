"""Two of a kind measured beside one another, so that what slows the machine slows both."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from harness.comparison import in_turn as in_turn


class Ratio(NamedTuple):
    """How often the first of each pair takes as long as the second: the median, and the least and most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Ratio:
        ratios = [first / second for first, second in pairs]
        return cls(statistics.median(ratios), min(ratios), max(ratios))
