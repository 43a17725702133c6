"""Two of a kind measured beside one another, so that what slows the machine slows both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from harness.comparison import in_turn as in_turn
from harness.errors import BenchError

Decode = Callable[[int], Any]  # so many tokens, or frames

MOST_OFF = 0.3  # relative RMS of two implementations in bf16; another network is off by 1


class Both(NamedTuple):
    """Milliseconds of theirs and of ours, each measured by a call, and how far apart their results are."""

    theirs_ms: Callable[[], float]
    ours_ms: Callable[[], float]
    off: float | None = None  # relative RMS

    @property
    def wrong(self) -> str:
        """Why the times are not of the same network; empty where they are."""
        if self.off is None or self.off <= MOST_OFF:
            return ""
        return f"not the same network: off by {self.off:.2g} of its RMS"


class Ratio(NamedTuple):
    """How often the first of each pair takes as long as the second: the median, and the least and most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Iterable[tuple[float, float]]) -> Ratio:
        ratios = [first / second for first, second in pairs]
        return cls(statistics.median(ratios), min(ratios), max(ratios))


def step_ms(decode: Decode, steps: int, sync: Callable[[], None], short: int = 5) -> float:
    """Milliseconds of a step: of a run of `short` and as many again as `steps`, less one of `short`, so that
    neither has what comes before the first."""
    seconds = []
    for count in (short, short + steps):
        sync()
        start = time.perf_counter()
        decode(count)
        sync()
        seconds.append(time.perf_counter() - start)
    return 1000 * (seconds[1] - seconds[0]) / steps


def table(theirs: str, pairs: list[tuple[float, float]], unit: str) -> str:
    """A row each of theirs, of ours and of the ratio: the median, and the least and most."""
    rows = [
        (name, f"{statistics.median(times):8.2f} {unit}  ({min(times):.2f} to {max(times):.2f})")
        for name, times in zip((theirs, "ours"), zip(*pairs, strict=True), strict=True)
    ]
    ratio = Ratio.of(pairs)
    rows.append(("ratio", f"{ratio.median:8.2f} {'':{len(unit)}}  ({ratio.low:.2f} to {ratio.high:.2f})"))
    return "\n".join(f"{name:<14}{row}" for name, row in rows)


def show(part: str, both: Both, pairs: int, theirs: str, unit: str) -> None:
    """Print the `table` of so many pairs, or of those there are where they are not measured to the end.
    Raises BenchError where they are not of the same network."""
    if both.wrong:
        raise BenchError(f"{part}: {both.wrong}")
    measured: list[tuple[float, float]] = []
    try:
        for pair in in_turn(both.theirs_ms, both.ours_ms, pairs):
            measured.append(pair)
    finally:
        if measured:
            cut = f", {len(measured)} of {pairs} pairs" if len(measured) < pairs else ""
            print(f"{part}{cut}\n{table(theirs, measured, unit)}", flush=True)
