"""Profiled runs: memory stage by stage, functions with cProfile, kernels with torch's profiler.

Instruments slow down what they watch, and unevenly. So each has a run of its own after the timed ones, its
times are labelled, and none of them is a sample.
"""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.profiler import memory_tables
from acestep.profiler.flags import flag_of
from acestep.profiler.options import OUTPUTS, Options
from harness.chrome_trace import is_one, kernels
from harness.errors import UsageError
from harness.files import apart, unwritten, writable, write_whole
from harness.records.memory import MemoryByStage
from harness.text import MAX_PAGE_CHARS, harmless

if TYPE_CHECKING:
    from acestep.engine import Engine

FUNCTIONS, SHOWN = 100, 20
DETAILS = "profile-functions.txt"
# Whether a file that begins so is an earlier one of the same kind.
OURS: dict[str, Callable[[bytes], bool]] = {
    "detailed": lambda head: b" function calls " in head,
    "trace": is_one,
}


def check(options: Options) -> None:
    """Make the folders of what is to be written. Raises UsageError, before anything runs, for a bad one."""
    places = _places(options)
    files = {name: getattr(options, name) for name in OUTPUTS} | places
    apart({flag_of(name): path for name, path in files.items()})
    for name, path in places.items():
        with suppress(OSError):  # told by `writable`
            path.parent.mkdir(parents=True, exist_ok=True)
        writable(name, path, OURS[name])
    try:
        str(options.trace).encode()
    except UnicodeEncodeError:  # torch's profiler takes a text for a path
        raise UsageError(f"trace: {str(options.trace)!r} is not UTF-8; name another") from None


def run(options: Options, work: Callable[[], object]) -> None:
    """One more call of `work` for each instrument that is asked for; says where its findings are.

    Raises MissingPrerequisite when they cannot be written.
    """
    places = _places(options)
    if path := places.get("detailed"):
        print(f"\n{functions(work, path)}")
    if path := places.get("trace"):
        kernels(work, path)
        print(f"\ntrace    {harmless(str(path))} (open it at ui.perfetto.dev)")


def _places(options: Options) -> dict[str, Path]:
    """Where what was asked for goes, by its flag."""
    folder = options.benchmark_output.parent if options.benchmark_output else Path("outputs")
    places = {"detailed": folder / DETAILS if options.detailed else None, "trace": options.trace}
    return {name: path for name, path in places.items() if path}


def memory(work: Callable[[], object], engine: Engine) -> MemoryByStage:
    """Memory at each boundary of a stage of `work`, which `engine` does; printed as a table."""
    with engine.stage_memory() as watched:
        work()
    by_stage = watched.found()
    print(f"\n{memory_tables.memory(by_stage)}")
    return by_stage


def functions(work: Callable[[], object], path: Path) -> str:
    """Write the 100 functions with the most time inside them to `path`; returns the first 20."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    try:
        write_whole(path, _table(profiler, FUNCTIONS).encode(errors="backslashreplace"))
    except OSError as error:
        raise unwritten(f"detailed: {str(path)!r} cannot be written", error) from None
    return harmless(f"instrumented times, in {path}\n{_table(profiler, SHOWN)}", "\n", MAX_PAGE_CHARS)


def _table(profiler: cProfile.Profile, rows: int) -> str:
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("cumulative").print_stats(rows)
    return text.getvalue().strip() + "\n"
