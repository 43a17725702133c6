"""One cold start: from the birth of a process to its first item, and to the next one. Part of the worker.

The parent reads the clock right before it starts the process, the process at the end of each phase: both ask
the system's monotonic clock, which they share. One process runs unrecorded before the others: it compiles
bytecode and has the files read from the disk, so what is measured is a start with its files in memory, and
kernels compiled by an earlier process where there is a cache of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import _matrix as matrix
import ace_step
from beside import scratch_folder
from commit import REPEATS, Unsupported, commit_module

HERE = Path(__file__).parent
# Its own modules come last: none of them may shadow the commit under test.
PROCESS = f"""
import sys
sys.path += {[str(HERE), str(HERE.parent)]}
from cold_start import main
main(*sys.argv[1:])
"""
SAMPLES = 2  # at most: fewer where the worker repeats less
TIMEOUT_S = 1200.0


def cold() -> tuple[dict, list, Callable]:
    """Nothing is loaded here: each sample is a process of its own."""
    source = os.environ.get("ACESTEP_SOURCE", "synthetic-tiny")
    duration_s = matrix.durations_s(source)[0]
    cells = matrix.cold_cells(source)
    environment = {"source": source, "lm": ace_step.language_model()}
    return {"environment": environment}, cells, lambda cell: measure(cell.engine, duration_s)


def measure(engine: str, duration_s: int) -> dict:
    """The record of a cold cell: seconds of each phase, per process."""
    ace_step.check_choices(engine)
    runs = []
    for _ in range(1 + min(SAMPLES, REPEATS)):
        with scratch_folder() as folder:
            output = folder / "phases.json"
            command = [sys.executable, "-P", "-c", PROCESS, engine, str(duration_s), str(output)]
            process = subprocess.run(
                [*command, repr(time.monotonic())],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
            )
            sys.stderr.write(process.stderr)
            if process.returncode:
                last = (process.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
                raise RuntimeError(f"the process ended with status {process.returncode}; last words: {last}")
            record = json.loads(output.read_text())
        if "unsupported" in record:
            raise Unsupported(record["unsupported"])
        runs.append(record)
    return {"runs": runs[1:]}


class Phases:
    """Seconds between the ends of phases."""

    def __init__(self, begun_s: float):
        self.found_s: dict[str, float] = {}
        self._last_s = begun_s

    def end(self, name: str) -> None:
        now_s = time.monotonic()
        self.found_s[name], self._last_s = now_s - self._last_s, now_s

    def without_compiling(self, stages_s) -> dict[str, float]:
        """The phases, what the first call compiled apart from it; `stages_s` are that call's."""
        if "compile" not in stages_s:
            return self.found_s
        first_s = self.found_s["first"] - stages_s["compile"]
        return self.found_s | {"compile": stages_s["compile"], "first": first_s}


def phases(engine: str, duration_s: int, begun_s: float, folder: Path) -> dict:
    """What a process of its own does, and how long each phase of it takes."""
    clock = Phases(begun_s)
    clock.end("start")
    import torch  # noqa: F401

    clock.end("import_torch")
    commit_module("acestep.engine")
    clock.end("import_engine")
    loaded = ace_step.load(engine)
    ace_step.check_language_model(loaded)
    clock.end("load")
    size = {"duration_s": duration_s, "batch": 1, "thinking": True, "steps": matrix.STEPS[0]}
    request = ace_step.request(matrix.cell("generate", **size), folder)
    plan = ace_step.subject().resolve(request, loaded.setup)
    first = loaded.run(plan, folder)
    clock.end("first")
    loaded.run(plan, folder)
    clock.end("steady")
    return {"phases_s": clock.without_compiling(first.stages_s)}


def main(engine: str, duration_s: str, output: str, begun_s: str) -> None:
    try:
        record = phases(engine, int(duration_s), float(begun_s), Path(output).parent)
    except Unsupported as error:
        record = {"unsupported": str(error)}
    Path(output).write_text(json.dumps(record))
