"""Two of a kind measured beside one another, so that what slows the machine slows both."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class Ratio(NamedTuple):
    """How often the first of each pair takes as long as the second: the median, and the least and most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Ratio:
        ratios = [first / second for first, second in pairs]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


def in_turn(
    first: Callable[[], Result], second: Callable[[], Result], pairs: int
) -> list[tuple[Result, Result]]:
    """Results of both, run beside one another so many times, either of them first in every other pair."""
    results: list[tuple[Result, Result]] = []
    for number in range(pairs):
        if number % 2:
            later = second()
            results.append((first(), later))
        else:
            results.append((first(), second()))
    return results
