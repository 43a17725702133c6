"""Runs that are looked into: function by function with cProfile, kernel by kernel with torch's profiler.

Instruments slow down what they watch, and unevenly. So each has a run of its own after the timed ones, its
times are labelled, and none of them is a sample.
"""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import Callable
from pathlib import Path

from acestep.errors import MissingPrerequisite
from acestep.profiler.options import Options
from acestep.profiler.output import write_whole

FUNCTIONS, SHOWN = 100, 20
DETAILS = "profile-functions.txt"


def run(options: Options, work: Callable[[], object]) -> None:
    """One more call of `work` for each instrument that is asked for; says where its findings are.

    Raises MissingPrerequisite when they cannot be written.
    """
    if options.detailed:
        folder = options.benchmark_output.parent if options.benchmark_output else Path("outputs")
        print(f"\n{functions(work, folder / DETAILS)}")
    if options.trace:
        kernels(work, options.trace)
        print(f"\ntrace    {options.trace} (open it at ui.perfetto.dev)")


def functions(work: Callable[[], object], path: Path) -> str:
    """Write the 100 functions with the most time inside them to `path`; returns the first 20."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _table(profiler, FUNCTIONS).encode())
    except OSError as error:
        raise MissingPrerequisite(f"detailed: {str(path)!r} cannot be written: {error.strerror}") from None
    return f"instrumented times, in {path}\n{_table(profiler, SHOWN)}"


def _table(profiler: cProfile.Profile, rows: int) -> str:
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("cumulative").print_stats(rows)
    return text.getvalue().strip() + "\n"


def kernels(work: Callable[[], object], path: Path) -> None:
    """Write a Chrome trace of `work` to `path`."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as watched:
        work()
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        watched.export_chrome_trace(str(part))
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise MissingPrerequisite(f"trace: {str(path)!r} cannot be written: {error}") from None
