"""A whole conversion in a fresh process: imports, load, stages, the most memory, as JSON."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from typing import Any

from harness import console
from harness.processes import Processes
from subjects.rvc.bench import report

SHARE = 0.02  # of the wall, which stages may miss


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
    second = engine.run(plan)
    missed = abs(sum(first.stages_s.values()) - first.wall_s)
    problem = SUBJECT.check(second, plan)
    if missed > SHARE * first.wall_s:
        problem = f"stages miss {missed:.3f} s of a wall of {first.wall_s:.3f} s"
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
