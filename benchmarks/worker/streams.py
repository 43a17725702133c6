"""Streams: what a player hears of a generation whose audio is handed out while it is decoded.

Each is held against the same request made at once. One that is further from it than rounding explains is a
failure, however early it is heard. Part of the worker.
"""

from __future__ import annotations

import math

import _matrix as matrix
import ace_step
from beside import streaming
from commit import Unsupported
from turns import repeats

QUANTILES = {"gap_p50_s": 0.5, "gap_p95_s": 0.95, "gap_worst_s": 1.0}


class Streams:
    """Streams of the plain engine, and what was last made at once."""

    def __init__(self, engines):
        self._engines = engines
        self._offline: tuple[object, list] = None, []

    def measure(self, cell) -> dict:
        """The record of a cell, failed where a stream is not what is made at once."""
        engine = self._engines.get(cell.engine)
        if not hasattr(engine, "run_stream"):
            raise Unsupported("this commit's engine streams nothing")
        if cell["thinking"]:
            ace_step.check_language_model(engine)
        size = {"duration_s": cell["duration_s"], "thinking": cell["thinking"]}
        generation = matrix.cell("generate", **size, batch=matrix.BATCHES[0], steps=matrix.STEPS[0])
        plan = ace_step.subject().resolve(ace_step.request(generation, None), engine.setup)
        if self._offline[0] != generation:
            self._offline = generation, [audio.tensor for audio in engine.run(plan).audios]
        _, offline = self._offline
        runs, errors = [], []
        for _ in repeats():
            run, chunks = stream(engine, plan, cell["chunk_s"])
            runs.append(run)
            errors.append(streaming.largest_error(chunks, offline))
        return compared(runs[1:], max(errors), engine.environment["dtype"])


def stream(engine, plan, chunk_s: float) -> tuple[dict, list]:
    """One run of `plan` in chunks: what a player hears of it, in seconds, and the chunks."""
    stream = engine.run_stream(plan, chunk_s=chunk_s)
    chunks = list(stream)
    result = stream.result
    run = {
        "wall_s": result.wall_s,
        "stages_s": dict(result.stages_s),
        "first_code_s": stream.first_code_s,
        "latents_s": stream.latents_s,
        **heard(chunks, result.audios[0].sample_rate),
    }
    return run, chunks


def heard(chunks: list, sample_rate: int) -> dict:
    """What a player at 1x hears of `chunks`, in seconds."""
    arrivals = streaming.Arrivals.of(chunks, sample_rate)
    return {
        "first_audio_s": arrivals.first_s,
        **{name: streaming.quantile(arrivals.gaps_s, share) for name, share in QUANTILES.items()},
        "underruns": len(arrivals.silences_s),
        "silence_s": sum(arrivals.silences_s),
    }


def compared(runs: list[dict], error: float, dtype: str) -> dict:
    """The record of `runs` that are at most `error` from what is made at once, in `dtype`."""
    record = {"runs": runs, "offline_error": error if math.isfinite(error) else None}
    if reason := streaming.unequal(error, dtype):
        return record | {"status": "failed", "reason": reason}
    return record
