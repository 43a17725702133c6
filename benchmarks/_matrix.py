"""What is measured: the axes, as data.

The axes are the guide's. How much of them is run depends on where the weights come from: the tiny synthetic
model is for minutes on two CPU cores, everything else runs every combination of the guide's lengths. asv is
always given the union, so a series has the same name on every machine; a cell outside the table of the source
in use is n/a, not missing.

    ACESTEP_BENCH_CELLS="duration_s=30 batch=1,2" asv run -E checkout HEAD^!

narrows any axis to some of its values; the rest of the cells are n/a for that run.
"""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

TINY = "synthetic-tiny"
TINY_DURATIONS_S = (5, 15)
GUIDE_DURATIONS_S = (30, 60, 120, 240)

DURATIONS_S = tuple(sorted({*TINY_DURATIONS_S, *GUIDE_DURATIONS_S}))
SHORTEST_S = (TINY_DURATIONS_S[0], GUIDE_DURATIONS_S[0])  # of each source
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
VARIANTS = ("default", "no-quant", "no-offload")
BACKENDS = ("pt", "vllm", "mlx")
QUANTIZATIONS = ("none", "int8_weight_only", "fp8_weight_only", "w8a8_dynamic")
COMPILE = (False, True)
DIT_OUTPUTS = ("velocity", "latents", "audio")  # of a step, of all steps, and what is heard of it
TOKENS = ("greedy", "drawn")  # the likeliest, and those that the same random numbers choose
PHASES = ("start", "import_torch", "import_engine", "load", "compile", "first", "steady")

COST_SOURCE = "synthetic-full"
COST_CARD = "RTX 4090"
COST_DITS = {name: f"acestep-v15-{name}" for name in ("turbo", "base", "xl-turbo")}
COST_DURATIONS_S = (30, 240)
COST_BATCHES = (1, 4)
COST_STAGES = ("lm_prefill", "lm_decode", "text_encode", "condition", "diffuse", "vae_decode", "post")


def engine(backend: str = "pt", quantization: str = "none", compile: bool = False) -> str:
    """The name of an engine: what sets it apart from the plain one."""
    apart = (backend != "pt" and backend, quantization != "none" and quantization, compile and "compiled")
    return " ".join(filter(None, apart)) or PLAIN


PLAIN = "plain"  # eager PyTorch, nothing quantized: told so, whatever the tier of the card would rather have
BASE = "base"  # of weights that can be guided
UNLESS_SAID = {"lm_backend": "pt", "quantization": "none", "compile": False}
# What the engine of a name is told beside UNLESS_SAID, in the order they run: vLLM comes last, because it
# changes the process that it is imported into.
ENGINES: dict[str, dict[str, object]] = {
    PLAIN: {},
    BASE: {"dit": "acestep-v15-base"},
    **{
        engine(quantization=name, compile=compile): {"quantization": name, "compile": compile}
        for compile, name in itertools.product(COMPILE, QUANTIZATIONS)
        if compile or name != "none"
    },
    **{engine(backend=name): {"lm_backend": name} for name in ("mlx", "vllm")},
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination to measure. `kind`: `generate` is request to file, `plan` the language model alone."""

    kind: str
    duration_s: int
    batch: int
    thinking: bool
    steps: int | None = None
    engine: str = PLAIN

    @property
    def name(self) -> str:
        size = f"duration_s={self.duration_s} batch={self.batch} thinking={self.thinking}"
        steps = "" if self.steps is None else f" steps={self.steps}"
        return f"{self.kind} {size}{steps}" + ("" if self.engine == PLAIN else f" engine={self.engine}")


@dataclass(frozen=True, slots=True)
class TaskCell:
    """One task on a recording as long as the result. `reference`: text to music in the timbre of a clip."""

    task: str
    duration_s: int
    kind = "task"
    engine = PLAIN

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
    engine = BASE

    @property
    def name(self) -> str:
        return f"solver method={self.method} guidance={self.guidance} duration_s={self.duration_s}"


@dataclass(frozen=True, slots=True)
class TextCell:
    """Music put into words by the language model, a fixed number of tokens of lyrics."""

    mode: str
    kind = "text"
    engine = PLAIN

    @property
    def name(self) -> str:
        return f"text mode={self.mode}"


@dataclass(frozen=True, slots=True)
class ParityCell:
    """How far an output of `engine` is from the plain engine's; that one's from its own of a moment ago."""

    output: str
    duration_s: int
    engine: str
    kind = "parity"

    @property
    def name(self) -> str:
        return f"parity output={self.output} engine={self.engine}"


@dataclass(frozen=True, slots=True)
class ColdCell:
    """The first planned item of a fresh process, and one more."""

    duration_s: int
    engine: str

    @property
    def name(self) -> str:
        return f"cold engine={self.engine}"


@dataclass(frozen=True, slots=True)
class TierCell:
    """One generation in its own capped process: a memory tier, with or without the language model.

    `variant`: what of the tier's settings is left out.
    """

    tier_gb: int
    lm: bool
    duration_s: int
    variant: str = "default"

    @property
    def name(self) -> str:
        variant = "" if self.variant == "default" else f" variant={self.variant}"
        return f"memory tier_gb={self.tier_gb} lm={self.lm}{variant}"


@dataclass(frozen=True, slots=True)
class BoundaryCell:
    """The smallest card that does without what `variant` leaves out; follows from the tier cells."""

    variant: str
    lm: bool

    @property
    def name(self) -> str:
        return f"boundary variant={self.variant} lm={self.lm}"


@dataclass(frozen=True, slots=True)
class CostCell:
    """One planned generation on a card that is not here, stage by stage. `variant`: of the DiT."""

    variant: str
    duration_s: int
    batch: int
    kind = "generate"
    thinking = True
    steps = STEPS[0]

    @property
    def name(self) -> str:
        return f"cost variant={self.variant} duration_s={self.duration_s} batch={self.batch}"


@dataclass(frozen=True, slots=True)
class PredictedCell:
    """One tier's verdict on a card that is not here."""

    tier_gb: int
    variant: str

    @property
    def name(self) -> str:
        return f"predicted tier_gb={self.tier_gb} variant={self.variant}"


def durations_s(source: str) -> tuple[int, ...]:
    """Seconds of audio to generate with weights from `source`."""
    return TINY_DURATIONS_S if source == TINY else GUIDE_DURATIONS_S


TimingCell = Cell | TaskCell | SolverCell | TextCell | ParityCell


def timing_cells(source: str) -> list[TimingCell]:
    """Every cell one worker runs, each engine's together. Generation and planning by themselves vary in size;
    each task, text mode, solver and engine costs what it costs at any, and runs the least of everything."""
    least = durations_s(source)[:1]
    axes = itertools.product(_axis("duration_s", durations_s(source)), _axis("batch", BATCHES))
    work = list(itertools.product(axes, _axis("thinking", THINKING)))
    dits = [
        engine(quantization=name, compile=compile)
        for compile, name in itertools.product(
            _axis("compile", COMPILE), _axis("quantization", QUANTIZATIONS)
        )
    ]
    lms = [engine(backend=name) for name in _axis("backend", BACKENDS)]
    generate = [
        Cell("generate", *size, think, steps, runs)
        for size, think in work
        for steps in _axis("steps", STEPS)
        for runs in dits
        # Planning, steps and items add up; on tiny weights no two of them are worth the time together.
        if source != TINY or think + (steps != STEPS[0]) + (size[1] != BATCHES[0]) <= 1
        if runs == PLAIN or (*size, think, steps) == (*least, BATCHES[0], False, STEPS[0])
    ]
    plan = [
        Cell("plan", *size, think, engine=runs)
        for size, think in work
        for runs in lms
        if runs == PLAIN or size == (*least, BATCHES[0])
    ]
    shortest = _axis("duration_s", least)
    tasks = [TaskCell(*pair) for pair in itertools.product(_axis("task", TASKS), shortest)]
    ways = itertools.product(_axis("method", METHODS), _axis("guidance", GUIDANCE), shortest)
    text = [TextCell(mode) for mode in _axis("mode", TEXT_MODES)]
    compared = [
        *itertools.product(_axis("output", DIT_OUTPUTS), shortest, dits),
        *itertools.product(_axis("output", TOKENS), shortest, lms),
    ]
    parity = [ParityCell(*one) for one in compared]
    cells = [*generate, *plan, *tasks, *text, *(SolverCell(*way) for way in ways), *parity]
    return sorted(cells, key=lambda cell: list(ENGINES).index(cell.engine))


def cold_cells(source: str) -> list[ColdCell]:
    """Every way to start: eager, and compiled."""
    ways = itertools.product(_axis("duration_s", durations_s(source)[:1]), _axis("compile", COMPILE))
    return [ColdCell(duration_s, engine(compile=compile)) for duration_s, compile in ways]


def tier_cells(source: str) -> list[TierCell]:
    """Every memory case, at the shortest duration of the source."""
    cases = itertools.product(_axis("tier_gb", TIERS_GB), _axis("lm", WITH_LM), _axis("variant", VARIANTS))
    return [TierCell(tier_gb, lm, durations_s(source)[0], variant) for tier_gb, lm, variant in cases]


def boundary_cells() -> list[BoundaryCell]:
    """What is found once every memory case has run."""
    variants = [variant for variant in _axis("variant", VARIANTS) if variant != "default"]
    return [BoundaryCell(variant, lm) for variant in variants for lm in _axis("lm", WITH_LM)]


def predicted_cells() -> list[CostCell | PredictedCell]:
    """Everything that is predicted. It does not depend on the source of weights."""
    axes = (("duration_s", COST_DURATIONS_S), ("batch", COST_BATCHES))
    sizes = itertools.product(*(_axis(name, values) for name, values in axes))
    costs = [CostCell(variant, *size) for size in sizes for variant in COST_DITS]
    tiers = itertools.product(_axis("tier_gb", TIERS_GB), _axis("variant", VARIANTS))
    return [*costs, *(PredictedCell(*tier) for tier in tiers)]


def asked_for(name: str, value: object) -> bool:
    """Whether ACESTEP_BENCH_CELLS names a value of an axis."""
    return str(value) in _chosen().get(name, ())


def _axis(name: str, values: tuple) -> tuple:
    """The values of one axis that ACESTEP_BENCH_CELLS leaves."""
    chosen = _chosen()
    return tuple(value for value in values if name not in chosen or str(value) in chosen[name])


def _chosen() -> dict[str, list[str]]:
    words = (word.split("=", 1) for word in os.environ.get("ACESTEP_BENCH_CELLS", "").split())
    return {name: values.split(",") for name, values in words}
