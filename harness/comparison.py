"""Two ways to the same result, compared as fairly as their work allows.

    torch = Leg("torch-cpu", "cpu", work, seconds)       what ran, where its weights were, what it had to do
    ratio(mlx, torch)                                    how many times as long the first takes

Work is described beside every time. Where descriptors differ there is no ratio; where its interval holds 1 it
is not significant, and is told so. No torch import here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import NamedTuple, TypeVar

from harness.errors import BenchError
from harness.progress import Progress
from harness.scaling import DRAWS, LEVEL, Estimate

Result = TypeVar("Result")


class Work(NamedTuple):
    """What a measured call has to do: `inputs` by hash, `weights` by where they come from, `samples` and
    `frames` that go in, `flop` with 2 for a multiply-add, on so many `threads`."""

    inputs: str
    weights: str
    samples: int
    frames: int
    flop: int
    threads: int


@dataclass(frozen=True, slots=True)
class Leg:
    """One side. `backend`: its name, that of a CPU with the CPU in it; `device`: of its weights, read back;
    `seconds`: of each call, of the wall; `cpu_s`: of each call, of all processors."""

    backend: str
    device: str
    dtype: str
    work: Work
    seconds: tuple[float, ...]
    cpu_s: tuple[float, ...]
    first_s: float | None = None  # of the first call, where it is none of them

    @property
    def median_s(self) -> float:
        return median(self.seconds)

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self) | {"work": self.work._asdict(), "median_s": self.median_s}


class UnequalWork(BenchError):
    """The two sides of a ratio did not do the same."""


def ratio(first: Leg, second: Leg, *, seed: int = 0) -> Estimate:
    """How many times as long `first` takes as `second`, with a bootstrap interval.

    Calls that were made beside one another are pairs, and the median of their quotients is the ratio: what
    slowed the machine slowed both. Raises UnequalWork, naming what differs.
    """
    differing = [
        f"{name} {ours!r} and {theirs!r}"
        for name, ours, theirs in zip(Work._fields, first.work, second.work, strict=True)
        if ours != theirs
    ]
    if differing:
        differences = "; ".join(differing)
        raise UnequalWork(f"{first.backend} over {second.backend}: no ratio of unequal work ({differences})")
    return of_pairs(first.seconds, second.seconds, seed=seed)


def of_pairs(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> Estimate:
    """The median of first / second, pair by pair; its interval is by percentiles of resampled pairs."""
    quotients = [a / b for a, b in zip(first, second, strict=True)]
    value = median(quotients)
    if len(quotients) < 2:
        return Estimate(value)
    lot = random.Random(seed)
    drawn = sorted(median(lot.choices(quotients, k=len(quotients))) for _ in range(DRAWS))
    outside = int(len(drawn) * (1 - LEVEL) / 2)
    return Estimate(value, drawn[outside], drawn[-1 - outside])


def in_turn(
    first: Callable[[], Result], second: Callable[[], Result], pairs: int
) -> Iterator[tuple[Result, Result]]:
    """Results of both, run beside one another so many times, either of them first in every other pair."""
    with Progress(pairs, pairs) as progress:
        for number in range(pairs):
            progress.step("pairs in turn")
            if number % 2:
                later = second()
                yield first(), later
            else:
                yield first(), second()


def in_words(estimate: Estimate) -> str:
    """A ratio in words: with its interval, and whether it can be told from 1."""
    value, low, high = estimate
    if low is None or high is None:
        return f"{value:.2f} (one pair: no interval)"
    significance = "" if estimate.tells_from(1) else ", not significant"
    return f"{value:.2f} ({low:.2f} to {high:.2f}{significance})"
