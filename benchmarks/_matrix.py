"""What is measured: the axes, as data.

The axes are the guide's. Only the durations depend on where the weights come from: the tiny synthetic
model is for seconds on two CPU cores, everything else runs the guide's lengths. asv is always given the
union, so a series has the same name on every machine; a cell outside the table of the source in use is
n/a, not missing.

    ACESTEP_BENCH_CELLS="duration_s=30 batch=1,2" asv run -E checkout HEAD^!

narrows any axis to some of its values; the rest of the cells are n/a for that run.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

TINY_DURATIONS_S = (5, 15)
GUIDE_DURATIONS_S = (30, 60, 120, 240)

DURATIONS_S = tuple(sorted({*TINY_DURATIONS_S, *GUIDE_DURATIONS_S}))
BATCHES = (1, 2, 4)
THINKING = (False, True)
STEPS = (8, 16)
STAGES = (
    "lm_prefill",
    "lm_decode",
    "text_encode",
    "condition",
    "diffuse",
    "vae_decode",
    "post",
    "save",
    "other",
)
TIERS_GB = (4, 6, 8, 12, 16, 20, 24)
WITH_LM = (False, True)


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination to measure. `kind`: `generate` is request to file, `plan` the language model alone."""

    kind: str
    duration_s: int
    batch: int
    thinking: bool
    steps: int | None = None

    @property
    def name(self) -> str:
        steps = "" if self.steps is None else f" steps={self.steps}"
        return f"{self.kind} duration_s={self.duration_s} batch={self.batch} thinking={self.thinking}{steps}"


@dataclass(frozen=True, slots=True)
class TierCell:
    """One generation in its own capped process: a memory tier, with or without the language model."""

    tier_gb: int
    lm: bool
    duration_s: int

    @property
    def name(self) -> str:
        return f"memory tier_gb={self.tier_gb} lm={self.lm}"


def durations_s(source: str) -> tuple[int, ...]:
    """Seconds of audio to generate with weights from `source`."""
    return TINY_DURATIONS_S if source == "synthetic-tiny" else GUIDE_DURATIONS_S


def timing_cells(source: str) -> list[Cell]:
    """Every cell one worker times: first generation, then planning alone."""
    axes = itertools.product(_axis("duration_s", durations_s(source)), _axis("batch", BATCHES))
    work = list(itertools.product(axes, _axis("thinking", THINKING)))
    generate = [
        Cell("generate", *size, think, steps) for size, think in work for steps in _axis("steps", STEPS)
    ]
    return generate + [Cell("plan", *size, think) for size, think in work]


def tier_cells(source: str) -> list[TierCell]:
    """Every memory case, at the shortest duration of the source."""
    cases = itertools.product(_axis("tier_gb", TIERS_GB), _axis("lm", WITH_LM))
    return [TierCell(tier_gb, lm, durations_s(source)[0]) for tier_gb, lm in cases]


def _axis(name: str, values: tuple) -> tuple:
    """The values of one axis that ACESTEP_BENCH_CELLS leaves."""
    chosen = dict(word.split("=", 1) for word in os.environ.get("ACESTEP_BENCH_CELLS", "").split())
    if name not in chosen:
        return values
    return tuple(value for value in values if str(value) in chosen[name].split(","))
