"""The benchmark matrix: the axes of what is measured, as data.

The axes are the guide's. How much of them is run depends on where the weights come from: the tiny synthetic
model is for minutes on two CPU cores, everything else runs every combination of the guide's lengths. asv is
always given the union, so a series has the same name on every machine; a cell outside the table of the source
in use is n/a, not missing.

    ACESTEP_BENCH_CELLS="duration_s=30 batch=1,2" asv run -E checkout HEAD^!

narrows any of the AXES to some of its values; what an earlier run measured of the other cells stays.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
PRESETS = ("fixed", "upstream")  # where a cell says nothing of it, the first: its request fixes all work
TIERS_GB = (4, 6, 8, 12, 16, 20, 24)
WITH_LM = (False, True)
VARIANTS = ("default", "no-quant", "no-offload")
BACKENDS = ("pt", "vllm", "mlx")
QUANTIZATIONS = ("none", "int8_weight_only", "fp8_weight_only", "w8a8_dynamic")
COMPILE = (False, True)
DIT_OUTPUTS = ("velocity", "latents", "audio")  # of a step, of all steps, and what is heard of it
TOKENS = ("greedy", "drawn")  # the likeliest, and those that the same random numbers choose
PHASES = ("start", "import_torch", "import_engine", "load", "compile", "first", "steady")
# What a token is one of, in text, in codes, and anywhere.
TEXT_TOKENS, CODE_TOKENS, LM_TOKENS = 151_669, 64_000, 217_204
# Axes of functions by themselves, by kind of cell; the first value of each is the one others vary around.
MICRO: dict[str, dict[str, tuple]] = {
    "mask": {
        "state": (
            "open", "forced", "bpm", "caption", "caption-end", "duration", "genres", "keyscale", "language",
            "timesignature", "lyrics",
        ),
        "vocabulary": (TEXT_TOKENS, 1_000, 32_000, CODE_TOKENS),
    },
    "sampling": {
        "sampler": (
            "whole", "greedy", "temperature", "top-k-1", "top-k-50", "top-k-200", "top-p-0.5", "top-p-0.9",
            "top-p-0.95", "penalty-0", "penalty-100", "penalty-1500",
        ),
        "vocabulary": (CODE_TOKENS, 1_000, 32_000, TEXT_TOKENS, LM_TOKENS),
        "rows": (1, 2, 8),
        "logits": ("peaked", "flat"),
    },
    "codes": {"codes_s": (10, 60, 240, 600)},
    "resample": {
        "rates": ("44100-48000", "16000-48000", "48000-16000", "12000-24000"),
        "audio_s": (2, 0.5, 10, 60, 300),
        "channels": (2, 1),
    },
    "span": {"reader": ("nobody", "recording")},
}  # fmt: skip
MICRO_UNLESS_NAMED = {"codes_s": (10, 60)}  # what there is of an axis that the filter does not name

# The first that is there, on every machine: a tier's own choice would make machines incomparable.
LMS = tuple(f"acestep-5Hz-lm-{size}" for size in ("0.6B", "1.7B", "4B"))

# What ACESTEP_BENCH_CELLS may narrow, and to what.
AXES: dict[str, tuple] = {
    "duration_s": DURATIONS_S,
    "batch": BATCHES,
    "thinking": THINKING,
    "steps": STEPS,
    "task": TASKS,
    "mode": TEXT_MODES,
    "method": METHODS,
    "guidance": GUIDANCE,
    "backend": BACKENDS,
    "quantization": QUANTIZATIONS,
    "compile": COMPILE,
    "output": (*DIT_OUTPUTS, *TOKENS),
    "tier_gb": TIERS_GB,
    "lm": WITH_LM,
    "variant": VARIANTS,
    "preset": PRESETS,
    **{name: values for axes in MICRO.values() for name, values in axes.items()},
}
FILTER, REPEATS = "ACESTEP_BENCH_CELLS", "ACESTEP_BENCH_REPEATS"
SELECTED = (
    "ACESTEP_BENCH_SELECTED"  # names of the cells that the benchmarks asv was asked for read, one a line
)

COST_SOURCE = "synthetic-full"
COST_CARD = "RTX 4090"
COST_DITS = {name: f"acestep-v15-{name}" for name in ("turbo", "base", "xl-turbo")}
COST_DURATIONS_S = (30, 240)
COST_BATCHES = (1, 4)
COST_MODES = ("eager", "captured", "compiled+captured")  # what runs the kernels; captured: steps as graphs
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


UNSAID = {
    "generate": {"engine": PLAIN},
    "plan": {"engine": PLAIN},
    "memory": {"variant": "default"},
    "cost": {"mode": COST_MODES[0]},
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination to measure, known by its name: a kind of measurement, and the values of its parameters.

    generate    request to file
    preset      request to file by a preset, which says how many items, and whether and what is planned
    plan        the language model alone
    task        one task on a recording as long as the result; `reference` is text to music in its timbre
    solver      base weights, which can be guided: one way to integrate, one to guide, at the fewest steps
    text        music put into words by the language model, a fixed number of tokens of lyrics
    parity      how far an output of `engine` is from the plain engine's, whose is from its own of before
    cold        the first planned item of a fresh process, and one more
    memory      one generation in its own capped process; `variant`: what of the tier's settings is left out
    boundary    the smallest card that does without what `variant` leaves out; follows from the memory cells
    cost        one planned generation on a card that is not here, stage by stage; `variant`: of the DiT,
                `mode`: what runs the kernels
    predicted   one tier's verdict on a card that is not here
    request     one request of a subject; the parameters are its fields
    component   one network of a subject, called on inputs of a size
    sampling, mask, codes, resample, span    functions of the engine by themselves
    """

    kind: str
    params: tuple[tuple[str, Any], ...]

    @property
    def name(self) -> str:
        return " ".join((self.kind, *(f"{name}={value}" for name, value in self.params)))

    @property
    def engine(self) -> str:
        """The engine that runs it."""
        return BASE if self.kind == "solver" else dict(self.params).get("engine", PLAIN)

    def __getitem__(self, name: str) -> Any:
        """The value of a parameter."""
        return (UNSAID.get(self.kind, {}) | dict(self.params))[name]


def cell(kind: str, **params: Any) -> Cell:
    """The cell of a kind and parameters. None is no parameter, and what goes without saying is left out."""
    unsaid = dict.fromkeys(params) | UNSAID.get(kind, {})
    return Cell(kind, tuple((name, value) for name, value in params.items() if value != unsaid[name]))


def language_model(source: str) -> str | None:
    """The language model that is measured with weights from `source`: the smallest that is there, or None."""
    root = Path(source)
    if not any(root.glob("acestep-*/")):
        return LMS[0]  # made-up weights have them all
    return next((name for name in LMS if any((root / name).glob("model*.safetensors"))), None)


def durations_s(source: str) -> tuple[int, ...]:
    """Seconds of audio to generate with weights from `source`."""
    return TINY_DURATIONS_S if source == TINY else GUIDE_DURATIONS_S


def timing_cells(source: str) -> list[Cell]:
    """Every cell one worker runs, each engine's together. Generation and planning by themselves vary in size;
    each task, text mode, solver and engine costs what it costs at any, and runs the least of everything."""
    least = durations_s(source)[:1]
    cells = [
        *generate_cells(source),
        *plan_cells(source),
        *_product("preset", preset=PRESETS[1:], duration_s=least),
        *_product("task", task=TASKS, duration_s=least),
        *_product("text", mode=TEXT_MODES),
        *_product("solver", method=METHODS, guidance=GUIDANCE, duration_s=least),
    ]
    if _axis("duration_s", least):
        outputs = {name: _dits() for name in _axis("output", DIT_OUTPUTS)}
        outputs |= {name: _lms() for name in _axis("output", TOKENS)}
        cells += [
            cell("parity", output=name, engine=runs) for name, engines in outputs.items() for runs in engines
        ]
    return selected(sorted(cells, key=lambda cell: list(ENGINES).index(cell.engine)))


def generate_cells(source: str) -> list[Cell]:
    """Generation at every size by the plain engine, and the least of everything by the others."""
    least = {"duration_s": durations_s(source)[0], "batch": BATCHES[0], "thinking": False, "steps": STEPS[0]}
    axes = {"duration_s": durations_s(source), "batch": BATCHES, "thinking": THINKING, "steps": STEPS}
    return [
        cell("generate", **size, engine=name)
        for size in _sizes(axes)
        # Planning, steps and items add up; on tiny weights no two of them are worth the time together.
        if source != TINY or sum(size[axis] != least[axis] for axis in ("batch", "thinking", "steps")) <= 1
        for name in _dits()
        if name == PLAIN or size == least
    ]


def plan_cells(source: str) -> list[Cell]:
    """Planning at every size by our own language model, and one item of the shortest by the others."""
    least = {"duration_s": durations_s(source)[0], "batch": BATCHES[0]}
    axes = {"duration_s": durations_s(source), "batch": BATCHES, "thinking": THINKING}
    return [
        cell("plan", **size, engine=name)
        for size in _sizes(axes)
        for name in _lms()
        if name == PLAIN or least.items() <= size.items()
    ]


def cold_cells(source: str) -> list[Cell]:
    """Every way to start: eager, and compiled."""
    if not _axis("duration_s", durations_s(source)[:1]):
        return []
    return selected(cell("cold", engine=engine(compile=compile)) for compile in _axis("compile", COMPILE))


def memory_cells() -> list[Cell]:
    """Every memory case."""
    return selected(_product("memory", tier_gb=TIERS_GB, lm=WITH_LM, variant=VARIANTS))


def tier_cells() -> list[Cell]:
    """Every memory case, and those that a boundary follows from."""
    wanted, followed = memory_cells(), {cell["lm"] for cell in boundary_cells()}
    every = itertools.product(TIERS_GB, WITH_LM, VARIANTS)
    cells = [cell("memory", tier_gb=tier_gb, lm=lm, variant=variant) for tier_gb, lm, variant in every]
    return [cell for cell in cells if cell in wanted or cell["lm"] in followed]


def boundary_cells() -> list[Cell]:
    """What is found once every memory case has run. Of some tiers only, it would be another number."""
    if _axis("tier_gb", TIERS_GB) != TIERS_GB:
        return []
    return selected(_product("boundary", variant=VARIANTS[1:], lm=WITH_LM))


def predicted_cells() -> list[Cell]:
    """Everything that is predicted. It does not depend on the source of weights. What captures and compiles
    is predicted of one item of the first DiT; more items and other DiTs are like it."""
    sizes = _sizes({"duration_s": COST_DURATIONS_S, "batch": COST_BATCHES})
    costs = [
        cell("cost", variant=variant, **size, mode=mode)
        for mode in COST_MODES
        for size in sizes
        for variant in COST_DITS
        if mode == COST_MODES[0] or (variant, size["batch"]) == (next(iter(COST_DITS)), COST_BATCHES[0])
    ]
    return selected([*costs, *_product("predicted", tier_gb=TIERS_GB, variant=VARIANTS)])


def micro_cells() -> list[Cell]:
    """Functions by themselves: one axis at a time varies, and with it all that ACESTEP_BENCH_CELLS names."""
    cells = []
    for kind, every in MICRO.items():
        unnamed = {axis: MICRO_UNLESS_NAMED.get(axis, every[axis]) for axis in every if axis not in chosen()}
        for size in _sizes(every | unnamed):
            if sum(size[axis] != values[0] for axis, values in unnamed.items()) <= 1:
                cells.append(cell(kind, **size))
    return selected(cells)


def every_cell(source: str) -> list[Cell]:
    """Everything that is asked for with weights from `source`."""
    by_source = timing_cells(source) + cold_cells(source)
    return by_source + memory_cells() + boundary_cells() + predicted_cells() + micro_cells()


def selected(cells: Iterable[Cell]) -> list[Cell]:
    """Those that some benchmark reads which asv was asked for; all, where nobody asked asv."""
    if (names := os.environ.get(SELECTED)) is None:
        return list(cells)
    return [cell for cell in cells if cell.name in names.splitlines()]


def _dits() -> list[str]:
    """Engines by how they run the DiT."""
    ways = itertools.product(_axis("compile", COMPILE), _axis("quantization", QUANTIZATIONS))
    return [engine(quantization=name, compile=compile) for compile, name in ways]


def _lms() -> list[str]:
    """Engines by what runs the language model."""
    return [engine(backend=name) for name in _axis("backend", BACKENDS)]


def _product(kind: str, **axes: tuple) -> list[Cell]:
    """A cell for every combination that the filter leaves."""
    return [cell(kind, **values) for values in _sizes(axes)]


def _sizes(axes: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """Every combination that the filter leaves, the last axis fastest."""
    left = [_axis(name, values) for name, values in axes.items()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*left)]


def asked_for(name: str, value: object) -> bool:
    """Whether ACESTEP_BENCH_CELLS names a value of an axis."""
    return str(value) in chosen().get(name, ())


def _axis(name: str, values: tuple) -> tuple:
    """The values of one axis that ACESTEP_BENCH_CELLS leaves."""
    left = chosen()
    return tuple(value for value in values if name not in left or str(value) in left[name])


class SettingError(ValueError):
    """A variable of the environment asks for what there is not."""


def repeats() -> int:
    """How often a cell is timed. Raises SettingError where ACESTEP_BENCH_REPEATS is no such number."""
    text = os.environ.get(REPEATS) or "3"
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise SettingError(f"{REPEATS}: {text[:60]!r} is not a whole number from 1 to 9999")
    return int(text)


def chosen() -> dict[str, list[str]]:
    """The values of each axis that ACESTEP_BENCH_CELLS names. Raises SettingError, one line with all AXES."""
    return _parsed(os.environ.get(FILTER, ""))


@cache
def _parsed(text: str) -> dict[str, list[str]]:
    axes: dict[str, list[str]] = {}
    for word in text.split():
        name, _, values = word.partition("=")
        known = [str(value) for value in AXES.get(name, ())]
        if not known:
            problem = f"{name[:60]!r} is not an axis"
        elif name in axes:
            problem = f"{name} is there twice"
        elif wrong := [value for value in values.split(",") if value not in known]:
            problem = f"{wrong[0][:60]!r} is not a value of {name}"
        else:
            axes[name] = values.split(",")
            continue
        every = " ".join(f"{name}={','.join(map(str, values))}" for name, values in AXES.items())
        raise SettingError(f"{FILTER}: {problem}; use some of {every}")
    return axes
