"""The benchmark matrix: what is measured, as the `cells` that `axes` come to and a `setting` leaves.

The axes are the guide's. How much of them is run depends on where the weights come from: the tiny synthetic
model is for minutes on two CPU cores, everything else runs every combination of the guide's lengths. asv is
always given the union, so a series has the same name on every machine; a cell outside the table of the source
in use is n/a, not missing.

    ACESTEP_BENCH_CELLS="duration_s=30 batch=1,2" asv run -E checkout HEAD^!

narrows any of the AXES to some of its values; what an earlier run measured of the other cells stays.
"""
# Axes, cells and setting are part of the matrix.
# ruff: noqa: F401, F403, F405

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .axes import *
from .cells import BASE, ENGINES, PLAIN, UNLESS_SAID, Cell, cell, engine
from .setting import (
    FILTER,
    REPEATS,
    SELECTED,
    SettingError,
    asked_for,
    chosen,
    combinations,
    left,
    of_subject,
    repeats,
)


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
        *stream_cells(source),
        *_product("preset", preset=PRESETS[1:], duration_s=least),
        *_product("task", task=TASKS, duration_s=least),
        *_product("text", mode=TEXT_MODES),
        *solver_cells(source),
        *_product("scaling", component=SCALED),
    ]
    if left("duration_s", least):
        outputs = {name: _dits() for name in left("output", DIT_OUTPUTS)}
        outputs |= {name: _lms() for name in left("output", TOKENS)}
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
        for size in _sizes(source, axes)
        for name in _dits()
        if name == PLAIN or size == least
    ]


def plan_cells(source: str) -> list[Cell]:
    """Planning at every size by our own language model, and one item of the shortest by the others."""
    least = {"duration_s": durations_s(source)[0], "batch": BATCHES[0]}
    axes = {"duration_s": durations_s(source), "batch": BATCHES, "thinking": THINKING}
    return [
        cell("plan", **size, engine=name)
        for size in _sizes(source, axes, together=("thinking",))
        for name in _lms()
        if name == PLAIN or least.items() <= size.items()
    ]


def lengths(source: str, component: str, device: str) -> tuple[int, ...]:
    """The lengths of a component that grows, in seconds of audio or in tokens, on a `device`."""
    if component in OF_TOKENS:
        return left("length_tokens", LENGTHS_TOKENS)
    if source == TINY:
        return left("length_s", TINY_LENGTHS_S)
    return left("length_s", GUIDE_LENGTHS_S if device == "cpu" else CARD_LENGTHS_S)


def solver_cells(source: str) -> list[Cell]:
    """Every solver with every guidance."""
    axes = {"method": METHODS, "guidance": GUIDANCE, "duration_s": durations_s(source)[:1]}
    return [cell("solver", **size) for size in _sizes(source, axes)]


def stream_cells(source: str) -> list[Cell]:
    """Streams of every length in chunks of every length, and planned ones in the engine's own."""
    axes = {"duration_s": durations_s(source), "thinking": THINKING, "chunk_s": CHUNKS_S}
    sizes = _sizes(source, axes)
    return [
        cell("stream", **size) for size in sizes if not size["thinking"] or size["chunk_s"] == CHUNKS_S[0]
    ]


def cold_cells(source: str) -> list[Cell]:
    """Every way to start: eager, and compiled."""
    if not left("duration_s", durations_s(source)[:1]):
        return []
    return selected(cell("cold", engine=engine(compile=compile)) for compile in left("compile", COMPILE))


def memory_cells(source: str) -> list[Cell]:
    """Every memory case: an XL DiT's by the tier's own settings, without a language model."""
    cells = _product("memory", tier_gb=TIERS_GB, lm=WITH_LM, variant=VARIANTS, dit=DITS[:1])
    xl = _product("memory", tier_gb=TIERS_GB, lm=WITH_LM[:1], variant=VARIANTS[:1], dit=_xl(source))
    return selected(cells + xl)


def tier_cells(source: str) -> list[Cell]:
    """Every memory case, and those that a boundary follows from."""
    planned = memory_cells(source)
    followed = {(cell["lm"], cell["dit"]) for cell in boundary_cells(source)}
    every = itertools.product(DITS, TIERS_GB, WITH_LM, VARIANTS)
    cells = [cell("memory", tier_gb=gb, lm=lm, variant=variant, dit=dit) for dit, gb, lm, variant in every]
    return [cell for cell in cells if cell in planned or (cell["lm"], cell["dit"]) in followed]


def boundary_cells(source: str) -> list[Cell]:
    """What is found once every memory case has run. Of some tiers only, it would be another number."""
    if left("tier_gb", TIERS_GB) != TIERS_GB:
        return []
    cells = _product("boundary", variant=VARIANTS[1:], lm=WITH_LM, dit=DITS[:1])
    return selected(cells + _product("boundary", variant=VARIANTS[1:], lm=WITH_LM[:1], dit=_xl(source)))


def predicted_cells() -> list[Cell]:
    """Everything that is predicted. It does not depend on the source of weights. What captures and compiles
    is predicted of one item of the first DiT; more items and other DiTs are like it."""
    sizes = combinations({"duration_s": COST_DURATIONS_S, "batch": COST_BATCHES})
    costs = [
        cell("cost", variant=variant, **size, mode=mode)
        for mode in COST_MODES
        for size in sizes
        for variant in COST_DITS
        if mode == COST_MODES[0] or (variant, size["batch"]) == (next(iter(COST_DITS)), COST_BATCHES[0])
    ]
    waits = [cell("waits", variant=variant, mode=mode) for variant in WAITS_BATCHES for mode in WAITS_MODES]
    peaks = _product("predicted", tier_gb=TIERS_GB, variant=VARIANTS, dit=DITS[:1])
    peaks += _product("predicted", tier_gb=TIERS_GB, variant=VARIANTS[:1], dit=DITS[1:])
    return selected([*costs, *waits, *peaks, *_speech_cells(), *_conversion_cells()])


def _speech_cells() -> list[Cell]:
    """What is predicted of Qwen3-TTS: each model by what runs its kernels, and on small cards."""
    subject = "qwen3_tts"
    axes = of_subject(subject, QWEN3_TTS)
    costs = itertools.product(axes["model"], COST_MODES[:2])
    peaks = itertools.product(axes["tier_gb"], axes["model"])
    return [
        *(cell("cost", subject=subject, model=model, mode=mode) for model, mode in costs),
        *(cell("predicted", subject=subject, tier_gb=tier_gb, model=model) for tier_gb, model in peaks),
    ]


def _conversion_cells() -> list[Cell]:
    """What is predicted of RVC: a conversion, and on small cards."""
    axes = of_subject("rvc", RVC)
    peaks = itertools.product(axes["tier_gb"], axes["model"])
    return [
        *(cell("cost", subject="rvc", model=model) for model in axes["model"]),
        *(cell("predicted", subject="rvc", tier_gb=tier_gb, model=model) for tier_gb, model in peaks),
    ]


def micro_cells() -> list[Cell]:
    """Functions by themselves: one axis at a time varies, and with it all that ACESTEP_BENCH_CELLS names."""
    cells = []
    for kind, every in MICRO.items():
        unnamed = {axis: MICRO_UNLESS_NAMED.get(axis, every[axis]) for axis in every if axis not in chosen()}
        for size in combinations(every | unnamed):
            if sum(size[axis] != values[0] for axis, values in unnamed.items()) <= 1:
                cells.append(cell(kind, **size))
    return selected(cells)


def every_cell(source: str) -> list[Cell]:
    """Everything that is asked for with weights from `source`."""
    by_source = timing_cells(source) + cold_cells(source)
    return by_source + memory_cells(source) + boundary_cells(source) + predicted_cells() + micro_cells()


def selected(cells: Iterable[Cell]) -> list[Cell]:
    """Those that some benchmark reads which asv was asked for; all, where nobody asked asv."""
    if (names := os.environ.get(SELECTED)) is None:
        return list(cells)
    return [cell for cell in cells if cell.name in names.splitlines()]


def _sizes(source: str, axes: dict[str, tuple], together: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Every combination of `axes` that the filter leaves. Tiny weights vary one axis at a time: what two of
    them do adds up, and is not worth the minutes. Those that the filter names count as one; those `together`
    vary with any other."""
    combined = {axis for axis in axes if axis in chosen()}
    apart = [{axis} for axis in axes if axis not in combined | set(together)] if source == TINY else []
    return [
        size
        for size in combinations(axes)
        if sum(any(size[axis] != axes[axis][0] for axis in group) for group in [*apart, combined]) <= 1
    ]


def _xl(source: str) -> tuple[str, ...]:
    """XL DiTs that cards are tested with. Tiny ones are as large as any other, and run where the filter names
    them."""
    return tuple(dit for dit in DITS[1:] if source != TINY or asked_for("dit", dit))


def _dits() -> list[str]:
    """Engines by how they run the DiT."""
    ways = itertools.product(left("compile", COMPILE), left("quantization", QUANTIZATIONS))
    return [engine(quantization=name, compile=compile) for compile, name in ways]


def _lms() -> list[str]:
    """Engines by what runs the language model."""
    return [engine(backend=name) for name in left("backend", BACKENDS)]


def _product(kind: str, **axes: tuple) -> list[Cell]:
    """A cell for every combination that the filter leaves."""
    return [cell(kind, **values) for values in combinations(axes)]
