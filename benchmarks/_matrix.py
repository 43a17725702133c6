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
    "offload",
    "load_audio",
    "vae_encode",
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
LM_STAGES = ("offload", "lm_prefill", "lm_decode", "other")
TASKS = ("cover", "repaint", "lego", "extract", "complete", "reference")  # text2music is everything above
TEXT_MODES = ("understand", "create", "format")
METHODS = ("ode", "sde", "heun")
GUIDANCE = ("none", "apg", "adg", "cfg")
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
class TaskCell:
    """One task on a recording as long as the result. `reference`: text to music in the timbre of a clip."""

    task: str
    duration_s: int
    kind = "task"

    @property
    def name(self) -> str:
        return f"task task={self.task} duration_s={self.duration_s}"


@dataclass(frozen=True, slots=True)
class SolverCell:
    """Base weights, which can be guided: one way to integrate, one way to guide, at the fewest steps."""

    method: str
    guidance: str
    duration_s: int
    kind = "solver"

    @property
    def name(self) -> str:
        return f"solver method={self.method} guidance={self.guidance} duration_s={self.duration_s}"


@dataclass(frozen=True, slots=True)
class TextCell:
    """Music put into words by the language model, a fixed number of tokens of lyrics."""

    mode: str
    kind = "text"

    @property
    def name(self) -> str:
        return f"text mode={self.mode}"


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


TimingCell = Cell | TaskCell | SolverCell | TextCell


def timing_cells(source: str) -> list[TimingCell]:
    """Every cell one worker times: generation, planning alone, then each task, text mode and solver, which
    cost what they cost at any length and run at the shortest."""
    axes = itertools.product(_axis("duration_s", durations_s(source)), _axis("batch", BATCHES))
    work = list(itertools.product(axes, _axis("thinking", THINKING)))
    generate = [
        Cell("generate", *size, think, steps) for size, think in work for steps in _axis("steps", STEPS)
    ]
    plan = [Cell("plan", *size, think) for size, think in work]
    shortest = _axis("duration_s", durations_s(source)[:1])
    tasks = [TaskCell(*pair) for pair in itertools.product(_axis("task", TASKS), shortest)]
    ways = itertools.product(_axis("method", METHODS), _axis("guidance", GUIDANCE), shortest)
    text = [TextCell(mode) for mode in _axis("mode", TEXT_MODES)]
    return [*generate, *plan, *tasks, *text, *(SolverCell(*way) for way in ways)]


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
