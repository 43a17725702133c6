"""A whole conversion in a fresh process: imports, load, stages, the most memory, as JSON."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from harness import console
from harness.processes import Processes
from harness.spans import OTHER
from subjects.rvc.bench import report

SHARE, LEAST_S = 0.02, 0.02  # of the wall that may be in no stage, however short it is


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code: 1 where the conversion is wrong. Raises BenchError."""
    import torch

    from subjects.rvc.bench.audio import planned
    from subjects.rvc.bench.legs import side

    place = report.place(options)
    one = side(options, has_mlx=False)
    plan = planned(options, one)
    threads = options.threads or torch.get_num_threads()
    reports: list[dict[str, Any]] = []
    for _ in range(one.runs):
        with Processes(1) as processes:
            reports += processes.map(partial(converted, threads=threads), [plan])
    content = {"runs": reports, "absent": one.absent}
    report.write(place, "e2e", content)
    print(json.dumps(content, indent=2))
    wrong = next((problem for one in reports if (problem := one["problem"])), None)
    if wrong:
        console.say("rvc", wrong)
    return 1 if wrong else 0


def converted(plan: Any, threads: int) -> dict[str, Any]:
    """Load and run `plan` twice in this process; what it took."""
    start = time.perf_counter()
    from harness.memory import MemoryBudget
    from subjects.rvc.engine import Engine
    from subjects.rvc.subject import SUBJECT

    import_s = time.perf_counter() - start
    engine = Engine.from_setup(plan.setup, threads=threads)
    first = engine.run(plan)
    start = time.perf_counter()
    second = engine.run(plan)
    around_s = time.perf_counter() - start
    problem = SUBJECT.check(second, plan) or missed(second.stages_s, around_s)
    return {
        "environment": dict(engine.environment),
        "audio_s": first.counts.audio_s,
        "import_s": import_s,
        "load_s": engine.load_s,
        "first_call_s": first.wall_s,
        "second_call_s": second.wall_s,
        "stages_s": dict(first.stages_s),
        "second_stages_s": dict(second.stages_s),
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
