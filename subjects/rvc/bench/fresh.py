"""A whole conversion in a fresh process of each backend: imports, load, stages, the most memory, as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from harness import console
from harness.processes import Processes
from harness.progress import Progress
from harness.spans import OTHER
from subjects.rvc.backends.mlx_process import no_measure, started_with_openblas
from subjects.rvc.bench.report import Report, as_json
from subjects.rvc.bench.sides import MLX, Sides

if TYPE_CHECKING:
    from subjects.rvc.plan import Plan

TORCH = "torch"
KEYS = {TORCH: "runs", MLX: "mlx"}  # of the figures of a backend
SHARE, LEAST_S = 0.02, 0.02  # of the wall that may be in no stage, however short it is


def run(sides: Sides, report: Report, plan: Plan) -> int:
    """Measure; returns the exit code: 1 where a conversion is wrong. Raises BenchError."""
    import torch

    threads = sides.threads or torch.get_num_threads()
    plans = {} if sides.mlx_alone else {TORCH: plan}
    if sides.mlx:
        plans[MLX] = replace(plan, setup=sides.mlx)
    problems: list[str] = []
    runs = [(backend, one) for backend, one in plans.items() for _ in range(sides.runs)]
    try:
        with Progress(len(runs), len(runs)) as progress:
            for backend, one in runs:
                progress.step(f"a fresh process of {backend}")
                measured = fresh(one, threads, backend)
                problems += filter(None, [measured["problem"]])
                if backend == MLX:
                    measured["note"] = no_measure(measured["environment"]["backend"])
                report.add(None, **{KEYS[backend]: [measured]})
    finally:
        if report.figures.keys() & KEYS.values():
            print(as_json(report.figures))
    for problem in dict.fromkeys(problems):
        console.say("rvc", problem)
    return 1 if problems else 0


def fresh(plan: Plan, threads: int, backend: str = TORCH) -> dict[str, Any]:
    """What `converted` tells of a process that does nothing else."""
    with (
        Processes(1) as processes,
        started_with_openblas(threads) if backend == MLX else nullcontext(),
    ):
        return next(processes.map(partial(converted, threads=threads, backend=backend), [plan]))


def converted(plan: Plan, threads: int, backend: str = TORCH) -> dict[str, Any]:
    """Load and run `plan` twice in this process; what it took."""
    start = time.perf_counter()
    from harness.memory import MemoryBudget
    from subjects.rvc.check import problem_of

    if backend == MLX:
        from subjects.rvc.backends.mlx_networks import engine as load
    else:
        from subjects.rvc.engine import Engine

        load = partial(Engine.from_setup, threads=threads)
    import_s = time.perf_counter() - start
    engine = load(plan.setup)
    first = engine.run(plan)
    start = time.perf_counter()
    second = engine.run(plan)
    around_s = time.perf_counter() - start
    problem = problem_of(second, plan) or missed(second.stages_s, around_s)
    return {
        "environment": dict(engine.environment),
        "audio_s": first.counts.audio_s,
        "import_s": import_s,
        "load_s": engine.load_s,
        "first_call_s": first.wall_s,
        "second_call_s": second.wall_s,
        "stages_s": dict(first.stages_s),
        "second_stages_s": dict(second.stages_s),
        "second_details_s": dict(second.details_s),
        "peak_rss_bytes": MemoryBudget("cpu").peak_bytes(),
        "device_peaks_bytes": engine.peaks_bytes(),
        "problem": problem,
    }


def missed(stages_s: Mapping[str, float], wall_s: float) -> str | None:
    """What is wrong with named stages as an account of `wall_s`, read around the call and not from its spans.

    `other` is left out: it is the rest of the spans' own wall, and makes the sum right whatever is missed.
    """
    named_s = sum(seconds for name, seconds in stages_s.items() if name != OTHER)
    if abs(wall_s - named_s) <= max(SHARE * wall_s, LEAST_S):
        return None
    return f"stages are {named_s:.3f} s of a wall of {wall_s:.3f} s; time is spent in none, or in two"
