"""The process that measures: every cell of the matrix on one engine, each model loaded once.

    python -P benchmarks/_worker.py timing /tmp/timing.jsonl      # by hand, with the installed engine

The only file here that loads the engine, and it takes the one of the commit under test: `-P` keeps this
folder off the import path and asv puts the commit's checkout on it. A cell runs once, unrecorded, at the
very shapes that follow (allocation, autotuning, lazy buffers), then REPEATS times. asv imports this file
too, to look for benchmarks: all work sits under `__main__`.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

REPEATS = int(os.environ.get("ACESTEP_BENCH_REPEATS", "3"))
CELL_TIMEOUT_S = 3600.0
OURS = ("acestep", "tiersim")
SEED = 42
CAPTION = "An unhurried piano theme over soft brushed drums and upright bass, late evening"
LYRICS = "[Verse]\nThe lamps are low along the quay\nThe tide is turning back to sea\n[Chorus]\nStay a while"
METADATA = {"bpm": 96, "keyscale": "D minor", "timesignature": "4", "vocal_language": "en"}


class Unsupported(Exception):
    """The commit under test has no such feature: its cells are n/a."""


def only_the_commit() -> None:
    """Let nothing but the checkout under test provide our packages. An editable install answers for every
    module the commit lacks, and would have today's code measured under yesterday's name."""
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")
    ]


def commit_module(name: str) -> ModuleType:
    """Import a module of the commit under test. Raises Unsupported where the commit has none."""
    checkout = os.environ.get("ASV_ENV_DIR") and Path(os.environ["ASV_ENV_DIR"], "project").resolve()
    if checkout:
        only_the_commit()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OURS:
            raise
        raise Unsupported(f"this commit has no {error.name}") from None
    if checkout and not Path(module.__file__ or "").resolve().is_relative_to(checkout):
        raise Unsupported(f"this commit has no {name}")
    return module


def request(cell):
    """The request of a cell. All metadata is given, so no token count depends on what is sampled;
    planning leaves bpm open, which is what makes its first phase run."""
    api = commit_module("acestep.request")
    metadata = METADATA | ({"bpm": None} if cell.kind == "plan" else {})
    steps = {} if cell.steps is None else {"inference_steps": cell.steps}
    music = {
        "caption": CAPTION,
        "lyrics": LYRICS,
        "duration": float(cell.duration_s),
        "thinking": cell.thinking,
    }
    try:
        params = api.GenerationParams(**music, **metadata, **steps)
        return params, api.GenerationConfig(batch_size=cell.batch, seeds=api.item_seeds(SEED, cell.batch))
    except TypeError as error:  # a field this commit does not know
        raise Unsupported(f"this commit: {error}") from None


def measure_cell(engine, cell) -> dict:
    """One discarded run, then REPEATS timed ones."""
    params, config = request(cell)
    generate_music = commit_module("acestep.engine").generate_music
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for _ in range(1 + REPEATS):
            if cell.kind == "plan":
                result = engine.plan(params, config)
            else:
                result = generate_music(engine, params, config, save_dir=Path(folder))
            runs.append({"wall_s": result.wall_s, "stages_s": dict(result.stages_s)})
    return {"runs": runs[1:], "counts": dataclasses.asdict(result.counts)}


def timing(matrix) -> tuple[dict, list, Callable]:
    engine = commit_module("acestep.engine").Engine.load()
    facts = {"environment": dict(engine.environment), "load_s": engine.load_s, "repeats": REPEATS}
    return facts, matrix.timing_cells(engine.environment["source"]), lambda cell: measure_cell(engine, cell)


def memory(matrix) -> tuple[dict, list, Callable]:
    """Nothing is loaded here: each case is a process of its own."""
    tiersim = commit_module("tiersim")
    source = os.environ.get("ACESTEP_SOURCE", "synthetic-tiny")

    def run(cell) -> dict:
        case = tiersim.Case(tier_gb=cell.tier_gb, lm=cell.lm, source=source, duration_s=cell.duration_s)
        return dataclasses.asdict(tiersim.run_case(case))

    return {"environment": {"source": source}}, matrix.tier_cells(source), run


def main(kind: str, path: Path) -> None:
    # OpenMP threads that spin while they wait turn one busy core into times a hundred times too long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is imported
    sys.path.append(str(Path(__file__).parent))  # last: nothing here may shadow the commit under test
    import _matrix
    import _records

    facts = {"commit": os.environ.get("ASV_COMMIT"), "env": os.environ.get("ASV_ENV_NAME"), "kind": kind}
    try:
        found, cells, measure = {"timing": timing, "memory": memory}[kind](_matrix)
    except Unsupported as error:
        _records.append(path, facts | {"status": "unsupported", "reason": str(error)})
        return
    found |= {"source": found["environment"]["source"], "planned": [cell.name for cell in cells]}
    _records.append(path, facts | found | {"status": "ok"})
    for cell in cells:
        faulthandler.dump_traceback_later(CELL_TIMEOUT_S, exit=True)
        try:
            record = {"status": "ok"} | measure(cell)
        except Unsupported as error:
            record = {"status": "unsupported", "reason": str(error)}
        except Exception as error:
            traceback.print_exc()
            record = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        _records.append(path, {"cell": cell.name} | record)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
