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
LM = "acestep-5Hz-lm-0.6B"  # everywhere: a tier's own choice would make machines incomparable
BASE_DIT = "acestep-v15-base"
TEXT_TOKENS = 64  # of a caption, and of lyrics
SAMPLE_RATE_HZ = 48_000


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


def made(kind: str, **fields):
    """A record of the commit's request module. Raises Unsupported where it has no such kind or field."""
    api = commit_module("acestep.request")
    try:
        return getattr(api, kind)(**fields)
    except (AttributeError, TypeError) as error:
        raise Unsupported(f"this commit: {error}") from None


def request(cell, folder: Path):
    """The request of a cell. All metadata is given, so no token count depends on what is sampled;
    planning leaves bpm open, which is what makes its first phase run."""
    music = {"caption": CAPTION, "lyrics": LYRICS, "duration": float(cell.duration_s)} | METADATA
    batch = 1
    if cell.kind in ("generate", "plan"):
        batch = cell.batch
        music |= {"thinking": cell.thinking} | ({"bpm": None} if cell.kind == "plan" else {})
        music |= {} if cell.steps is None else {"inference_steps": cell.steps}
    elif cell.kind == "solver":
        guidance = {"guidance_scale": 1.0} if cell.guidance == "none" else {"guidance_mode": cell.guidance}
        music |= {"inference_steps": 8, "infer_method": cell.method} | guidance
    elif cell.task == "reference":
        music |= {"reference_audio": (recording(cell, folder),)}
    else:
        music |= {"task_type": cell.task, "src_audio": recording(cell, folder)}
    seeds = commit_module("acestep.request").item_seeds(SEED, batch)
    return made("GenerationParams", **music), made("GenerationConfig", batch_size=batch, seeds=seeds)


def recording(cell, folder: Path) -> str:
    """A file of two decaying chords a second, as long as the cell's result."""
    import numpy as np
    import soundfile

    second = np.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tones = sum(np.sin(2 * np.pi * pitch * second) for pitch in (220.0, 277.2, 329.6))
    wave = np.tile(0.2 * tones * np.exp(-6 * (second % 0.5)), cell.duration_s)
    path = folder / "recording.wav"
    soundfile.write(path, wave, SAMPLE_RATE_HZ, subtype="PCM_16")
    return str(path)


def text_request(cell):
    """What a text mode reads. The lyrics are a fixed number of tokens, whatever is sampled."""
    codes = "".join(f"<|audio_code_{(7919 * i) % 64_000}|>" for i in range(150))
    words = {"understand": {"audio_codes": codes}, "create": {"query": CAPTION}}
    given = words.get(cell.mode, {"caption": CAPTION, "lyrics": LYRICS})
    fixed = {"seed": SEED, "max_lyrics_tokens": TEXT_TOKENS, "max_caption_tokens": TEXT_TOKENS}
    return made("DescriptionParams", **given, **METADATA, duration=30, ignore_eos=True, **fixed)


class Engines:
    """One engine at a time: cells come in the order of what they load."""

    def __init__(self):
        self._dit, self._engine = None, None

    def get(self, dit: str | None = None):
        if self._engine is None or dit != self._dit:
            self._engine = None  # before the next one is loaded: two may not fit
            chosen = {} if dit is None else {"dit": dit}
            try:
                self._engine = commit_module("acestep.engine").Engine.load(lm=LM, **chosen)
            except TypeError as error:
                raise Unsupported(f"this commit: {error}") from None
            self._dit = dit
        return self._engine


def measure_cell(engines, cell) -> dict:
    """One discarded run, then REPEATS timed ones."""
    engine = engines.get(BASE_DIT if cell.kind == "solver" else None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if cell.kind == "text":
            params = text_request(cell)

            def run():
                return getattr(engine, cell.mode)(params)
        else:
            params, config = request(cell, folder)
            generate_music = commit_module("acestep.engine").generate_music

            def run():
                if cell.kind == "plan":
                    return engine.plan(params, config)
                return generate_music(engine, params, config, save_dir=folder)

        results = [run() for _ in range(1 + REPEATS)]
    runs = [{"wall_s": result.wall_s, "stages_s": dict(result.stages_s)} for result in results[1:]]
    return {"runs": runs, "counts": dataclasses.asdict(results[-1].counts)}


def timing(matrix) -> tuple[dict, list, Callable]:
    engines = Engines()
    engine = engines.get()
    facts = {"environment": dict(engine.environment), "load_s": engine.load_s, "repeats": REPEATS}
    return facts, matrix.timing_cells(engine.environment["source"]), lambda cell: measure_cell(engines, cell)


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
