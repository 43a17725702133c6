"""The parts of a run, in the order in which each is worth having if the rest is cut, and how large they are.

A part's share of the budget is proportional to its seconds here; what one leaves over is the others'.
No torch import here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from acestep.weights.layout import LM_SIZES, SYNTHETIC

BUDGET_S = 12 * 60.0
SPARE_S = 30.0  # of the budget: for starting processes and writing files


class Part(NamedTuple):
    """One part. `seconds` of the whole budget, and the least with which it is worth beginning."""

    name: str
    title: str
    seconds: float
    least_s: float


PARTS = (
    Part("tests", "tests marked gpu", 75, 10),
    Part("calibration", "memory, launches, rates of the card", 45, 8),
    Part("stages", "stages by length and language model", 195, 20),
    Part("modes", "compiled and captured beside eager", 120, 20),
    Part("beside", "diffusers and transformers beside ours", 90, 15),
    Part("peaks", "peaks of the tiers, run and predicted", 120, 15),
    Part("energy", "joules by NVML's counter", 45, 10),
)
NAMES = tuple(part.name for part in PARTS)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each part measures, by the source of weights."""

    durations_s: Sequence[float] = (30, 60, 240)
    duration_s: float = 60  # where there is one
    lm_sizes: Sequence[str] = LM_SIZES
    repeats: int = 2
    pairs: int = 5
    tokens: int = 50  # of a decode beside another
    energy_s: float = 5  # the counter's readings are that far apart at least
    tiers_gb: Sequence[float] = (4, 6, 8, 12, 16, 20, 24)
    tier_duration_s: float = 30
    launches: int = 2000
    copied_bytes: Sequence[int] = (2**26, 2**30)
    linked_bytes: int = 2**28
    edge: int = 8192  # of the largest matrices
    wide: int = 2048  # of the DiT's, whose rows are those of 30 and 240 s
    spread_bytes: int = 2**28  # of matrices that take turns, so that no cache holds one


TINY = Sizes(
    durations_s=(5, 10, 15),
    duration_s=5,
    lm_sizes=LM_SIZES[:1],
    repeats=1,
    pairs=3,
    tokens=10,
    tiers_gb=(4, 24),
    tier_duration_s=10,
    copied_bytes=(2**24,),
    edge=512,
    wide=256,
    spread_bytes=2**22,
)


def sizes_of(source: str) -> Sizes:
    """How much is measured with weights of `source`."""
    return TINY if source == SYNTHETIC[0] else Sizes()


def allotment_s(part: Part, later: Sequence[Part], left_s: float) -> float:
    """Seconds for `part`, of `left_s` that it shares with the `later` ones; 0 where it is not worth it."""
    share = part.seconds / (part.seconds + sum(other.seconds for other in later))
    seconds = max(min(part.seconds, left_s), left_s * share)
    return seconds if seconds >= part.least_s else 0.0


def enough_s(needs_s: Mapping[str, float]) -> float:
    """A budget in which each of some parts, by name, has the seconds that it needs, if no other runs."""
    left = [part for part in PARTS if part.name in needs_s]
    seconds = sum(part.seconds for part in left)
    return SPARE_S + max(max(needs_s[part.name], part.least_s) * seconds / part.seconds for part in left)


def listing(parts: Sequence[Part], budget_s: float) -> str:
    """The parts with their minutes, as a run that takes all of its time would have them."""
    lines, left_s = [f"{'part':<13}{'minutes':>8}  what it measures"], budget_s - SPARE_S
    for index, part in enumerate(parts):
        seconds = allotment_s(part, parts[index + 1 :], left_s)
        minutes = f"{seconds / 60:.1f}" if seconds else "skipped"
        lines.append(f"{part.name:<13}{minutes:>8}  {part.title}")
        left_s -= seconds
    return "\n".join([*lines, f"{'in all':<13}{(budget_s - left_s) / 60:>8.1f}  at most"])
