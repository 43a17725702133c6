"""Whole conversions of a recording: time by stage, and whether they come out the same.

Distances are relative RMS, the largest difference, the signal-to-noise ratio and the log-mel's; correlation
is told beside them and decides nothing, as one of 0.9998 is what another seed's noise has.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from harness import console
from harness.parity import compare
from harness.progress import Progress
from harness.text import harmless
from subjects.rvc.accuracy import accuracy
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench.beside import mlx_of
from subjects.rvc.bench.legs import Side
from subjects.rvc.bench.report import Report, absent
from subjects.rvc.bench.sides import Sides
from subjects.rvc.check import problem_of
from subjects.rvc.config import SAMPLE_RATE
from subjects.rvc.conversion import resampled
from subjects.rvc.engine import Engine
from subjects.rvc.mel import log_mel
from subjects.rvc.plan import Plan
from subjects.rvc.result import Result

LIMIT, STEPS = 1e-3, 2  # between backends: of the relative RMS of waves, and of 16-bit samples


def run(sides: Sides, report: Report, plan: Plan, folder: Path | None) -> int:
    """Measure; returns the exit code: 1 where a conversion is wrong. Raises BenchError."""
    one = Side.of(sides)
    limits = {"relative_rms": LIMIT, "steps_of_16_bits": STEPS}
    report.note(limits=limits, mlx=None, problem=None)
    with mlx_of(one) as mlx:
        alone = mlx if sides.mlx_alone else None
        engine = alone or Engine.from_setup(sides.setup, threads=sides.threads)
        timed = _timed(one, report, plan, engine, folder)
        apart = _compared(report, plan, engine, None if alone else mlx, timed.last)
    problem = timed.problem(plan) or apart
    for audio in timed.first.audios:
        if audio.path:
            print(harmless(f"written  {audio.path}"))
    absent(sides.absent)
    if problem:
        report.add(None, problem=problem)
        console.say("rvc", problem)
    return 1 if problem else 0


class Conversions(NamedTuple):
    """Conversions of one plan: the first and the last, and the SHA-256 of what each made."""

    first: Result
    last: Result
    hashes: list[str]

    def problem(self, plan: Plan) -> str | None:
        """What is wrong with them by themselves."""
        if len(set(self.hashes)) > 1:
            return "the same request came out differently"
        return problem_of(self.last, plan)


def _timed(one: Side, report: Report, plan: Plan, engine: Engine | Mlx, folder: Path | None) -> Conversions:
    """Conversions by `engine`, the first written to `folder`, and where the wall of the last went."""
    report.note(environment=dict(engine.environment), first_s=None)
    results: list[Result] = []
    runs: list[dict[str, Any]] = []
    calls = one.sides.runs + one.sides.warmup
    with Progress(calls, calls) as progress:
        if one.sides.warmup:
            progress.step("the first conversion")
            report.add(None, first_s=engine.run(plan).wall_s)
        for number in range(one.sides.runs):
            progress.step("timed conversions")
            last = engine.run(plan, None if number else folder)
            results = [*results[:1], last]
            run = {"wall_s": last.wall_s, "sha256": of_audio(last)}
            runs.append(run | {"stages_s": dict(last.stages_s), "details_s": dict(last.details_s)})
            digest = runs[-1]["sha256"][:16]
            report.add(
                f"run {number + 1}: wall {last.wall_s:.3f} s, rtf {last.rtf:.3f}, SHA-256 {digest}",
                runs=runs[-1:],
            )
    first, last = results[0], results[-1]
    backend = engine.backend if isinstance(engine, Mlx) else one.backend
    print(f"{backend}, {one.weights}: {last.counts.audio_s:.2f} s of audio, chunks: {last.counts.chunks}")
    middle_s = median(run["wall_s"] for run in runs)
    print(f"median wall {middle_s:.3f} s of {len(runs)}, rtf {middle_s / last.counts.audio_s:.3f}")
    print(stages(last))
    return Conversions(first, last, [run["sha256"] for run in runs])


def _compared(report: Report, plan: Plan, engine: Engine | Mlx, mlx: Mlx | None, last: Result) -> str | None:
    """How far away MLX, if it is beside `engine`, and another seed's noise are; what is wrong with that."""
    problem = None
    if mlx:
        apart = distances(last, mlx.run(plan))
        report.add(
            f"{mlx.backend}, with the same draws, at most {LIMIT:g} and {STEPS} steps away:\n"
            f"{_listed(apart)}",
            mlx={"environment": mlx.environment, "distances": apart},
        )
        if apart["relative_rms"] > LIMIT or apart["steps_of_16_bits"] > STEPS:
            problem = f"MLX is farther away than {LIMIT:g}, or than {STEPS} steps of 16 bits"
    other = engine.run(replace(plan, request=replace(plan.request, seed=plan.request.seed + 1)))
    noise = distances(last, other)
    report.add(
        "the control, another seed's noise, which no backend may be as far away as:\n" + _listed(noise),
        another_seed=noise,
    )
    if noise["relative_rms"] <= LIMIT:
        problem = f"another seed's noise is within {LIMIT:g}, the limit of what is told apart"
    return problem


def _listed(figures: dict[str, float]) -> str:
    return "\n".join(f"  {name:<18}{value:>11.4g}" for name, value in figures.items())


def stages(result: Result) -> str:
    """Where the wall went, and what of a stage is told apart."""
    lines = [
        f"  {name:<17}{1e3 * seconds:>11.2f} ms {seconds / result.wall_s:>7.1%}"
        for name, seconds in (*result.stages_s.items(), *result.details_s.items())
    ]
    return "\n".join(lines)


def of_audio(result: Result) -> str:
    """SHA-256 of the samples of all items."""
    digest = sha256()
    for audio in result.audios:
        digest.update(audio.samples.tobytes())
    return digest.hexdigest()


def distances(reference: Result, other: Result) -> dict[str, float]:
    """How far the waves of `other` are from those of `reference`."""
    ours, theirs = (result.waves[0].astype(np.float64) for result in (reference, other))
    parity = compare(torch.from_numpy(ours), torch.from_numpy(theirs))
    rate = reference.plan["sample_rate"] if reference.plan["resample_hz"] is None else None
    steps = np.abs(reference.audios[0].samples.astype(int) - other.audios[0].samples.astype(int))
    figures: dict[str, Any] = {
        "relative_rms": parity.relative_rms,
        "max": parity.max_abs,
        "snr_db": parity.snr_db,
        "rms_ratio": float(np.sqrt(np.mean(theirs**2) / np.mean(ours**2))),
        "steps_of_16_bits": int(steps.max(initial=0)),
        "correlation": float(np.corrcoef(ours, theirs)[0, 1]),
    }
    pitches = accuracy(torch.from_numpy(reference.f0.copy()), torch.from_numpy(other.f0.copy()))
    if pitches.voiced_f1 is not None:
        figures["voiced_f1"] = pitches.voiced_f1
    if pitches.cents_rms is not None:
        figures["cents_rms"] = pitches.cents_rms
    if rate:
        figures["log_mel"] = log_mel_distance(ours, theirs, rate)
    return figures


def log_mel_distance(reference: NDArray[Any], other: NDArray[Any], rate: int) -> float:
    """The mean distance of their log-mels at 16 kHz, in natural logarithms of magnitudes."""
    mels = [
        log_mel(torch.from_numpy(resampled(wave, rate, SAMPLE_RATE).copy())[None])
        for wave in (reference, other)
    ]
    return float((mels[0] - mels[1]).abs().mean())
