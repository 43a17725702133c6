"""The engine compiled, captured as graphs, and both, each beside eager in turn: how often as fast."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from acestep.engine import Engine
from acestep.result import GenerationResult
from harness.memory import hand_back
from harness.records import making
from scripts.gpu.parts.songs import EAGER, open_engine, setup_of, song
from scripts.gpu.parts.stages import STAGES
from scripts.gpu.steps import Measured, Step, Task
from scripts.in_turn import Ratio, in_turn

MODES: Mapping[str, Mapping[str, Any]] = {
    "captured": {**EAGER, "graphs": True},
    "compiled": {**EAGER, "compile": True},
    "compiled, captured": {"compile": True, "graphs": True},
}


def steps(task: Task) -> Iterator[Step]:
    eager = cache(lambda: open_engine(setup_of(task, _size(task), **EAGER)))
    for name, choices in MODES.items():
        yield Step(name, partial(_beside_eager, task, choices, eager))
        hand_back()


def _size(task: Task) -> str:
    return task.sizes.lm_sizes[0]


def _beside_eager(task: Task, choices: Mapping[str, Any], eager: Callable[[], Engine]) -> Measured:
    """What was called instead, or in another way than the mode's name says, is the row's error."""
    setup = setup_of(task, _size(task), **choices)  # which refuses before anything is loaded
    engines = eager(), open_engine(setup)
    rows = [song(engine.setup, task.sizes.duration_s) for engine in engines]
    runs = [partial(engine.run, row.plan) for engine, row in zip(engines, rows, strict=True)]
    for run in runs:  # which compiles and records
        run()
    pairs = list(in_turn(runs[0], runs[1], task.sizes.pairs))
    values = {"pairs": len(pairs), "duration_s": task.sizes.duration_s, "audio_off": _off(*pairs[-1])}
    values |= _ratios("wall", [(eager.wall_s, other.wall_s) for eager, other in pairs])
    for stage in STAGES:
        if all(result.stages_s.get(stage) for pair in pairs for result in pair):
            values |= _ratios(stage, [(a.stages_s[stage], b.stages_s[stage]) for a, b in pairs])
    items = [
        making.item("gpu", row.requested | dict(choice), engine, row.plan, results)
        for choice, engine, row, results in zip(
            (EAGER, choices), engines, rows, zip(*pairs, strict=True), strict=True
        )
    ]
    fallbacks = dict.fromkeys(str(one) for _, other in pairs for one in other.fallbacks)
    return Measured(values, tuple(items), error="; ".join(fallbacks))


def _ratios(name: str, pairs: list[tuple[float, float]]) -> dict[str, float]:
    """Seconds of both, and eager over the other: above 1 the other is faster."""
    eager_s, other_s = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratio = Ratio.of(pairs)
    return {
        f"{name}_eager_s": eager_s,
        f"{name}_s": other_s,
        f"{name}_ratio": ratio.median,
        f"{name}_low": ratio.low,
        f"{name}_high": ratio.high,
    }


def _off(eager: GenerationResult, other: GenerationResult) -> float:
    """How far the audio is off, as a share of eager's root mean square."""
    theirs, ours = eager.audios[0].tensor.double(), other.audios[0].tensor.double()
    return float((ours - theirs).norm() / theirs.norm())
