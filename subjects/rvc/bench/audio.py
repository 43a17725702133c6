"""Whole conversions of a recording: time by stage, and whether they come out the same.

Distances are relative RMS, the largest difference, the signal-to-noise ratio and the log-mel's; correlation
is told beside them and decides nothing, as one of 0.9998 is what another seed's noise has.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness import console
from harness.errors import UsageError
from harness.files import folder_for_audio
from harness.parity import compare
from harness.text import harmless
from subjects.rvc.accuracy import accuracy
from subjects.rvc.backends.mlx_process import Mlx
from subjects.rvc.bench import report
from subjects.rvc.bench.beside import mlx_of
from subjects.rvc.bench.legs import Side, side
from subjects.rvc.config import SAMPLE_RATE
from subjects.rvc.conversion import resampled
from subjects.rvc.engine import Engine
from subjects.rvc.mel import log_mel
from subjects.rvc.plan import Plan, resolve
from subjects.rvc.request import request
from subjects.rvc.result import Result
from subjects.rvc.subject import SUBJECT

DEFAULT_S = 5.0  # of a made-up voice
OUTPUTS = "outputs"  # the folder of --save-outputs
LIMIT, STEPS = 1e-3, 2  # between backends: of the relative RMS of waves, and of 16-bit samples


def run(options: argparse.Namespace) -> int:
    """Measure; returns the exit code: 1 where a conversion is wrong. Raises BenchError."""
    if options.output_dir and not options.save_outputs:
        raise UsageError("--out: given without --save-outputs; add it")
    place, one = report.place(options), side(options)
    plan = planned(options, one)
    folder = None
    if options.save_outputs:
        folder = folder_for_audio("--out", options.output_dir or Path(OUTPUTS))
    with mlx_of(one, options.threads) as mlx:
        engine = mlx if mlx and one.mlx_alone else Engine.from_setup(one.setup, threads=options.threads)
        return _measured(folder, place, one, plan, engine, None if engine is mlx else mlx)


def _measured(
    folder: Path | None,
    place: Path | None,
    one: Side,
    plan: Plan,
    engine: Engine | Mlx,
    mlx: Mlx | None,
) -> int:
    """Conversions by `engine`, the first written to `folder`, and, for its distance, one by `mlx`."""
    warm_s = engine.run(plan).wall_s if one.warmup else None
    results = [engine.run(plan, folder if not index else None) for index in range(one.runs)]
    last, hashes = results[-1], [of_audio(result) for result in results]
    other = engine.run(replace(plan, request=replace(plan.request, seed=plan.request.seed + 1)))
    noise = distances(last, other)
    problem = SUBJECT.check(last, plan)
    if len(set(hashes)) > 1:
        problem = "the same request came out differently"
    elif noise["relative_rms"] <= LIMIT:
        problem = f"another seed's noise is within {LIMIT:g}, the limit of what is told apart"
    apart = distances(last, mlx.run(plan)) if mlx else None
    if apart and (apart["relative_rms"] > LIMIT or apart["steps_of_16_bits"] > STEPS):
        problem = f"MLX is farther away than {LIMIT:g}, or than {STEPS} steps of 16 bits"
    backend = engine.backend if isinstance(engine, Mlx) else one.backend
    walls = sorted(result.wall_s for result in results)
    told = f"{backend}, {one.weights}: {last.counts.audio_s:.2f} s of audio, chunks: {last.counts.chunks}"
    print(f"{told}\nmedian wall {walls[len(walls) // 2]:.3f} s of {len(walls)}, rtf {last.rtf:.3f}")
    print(stages(last))
    print(f"SHA-256 of samples: {', '.join(digest[:16] for digest in dict.fromkeys(hashes))} in all runs")
    if mlx and apart:
        print(f"{mlx.backend}, with the same draws, at most {LIMIT:g} and {STEPS} steps away:")
        print("\n".join(f"  {name:<18}{value:>11.4g}" for name, value in apart.items()))
    print("the control, another seed's noise, which no backend may be as far away as:")
    print("\n".join(f"  {name:<18}{value:>11.4g}" for name, value in noise.items()))
    for audio in results[0].audios:
        if audio.path:
            print(harmless(f"written  {audio.path}"))
    report.absent(one.absent)
    content = {
        "plan": plan.as_dict(),
        "environment": dict(engine.environment),
        "first_s": warm_s,
        "walls_s": [result.wall_s for result in results],
        "stages_s": dict(last.stages_s),
        "sha256": hashes,
        "limits": {"relative_rms": LIMIT, "steps_of_16_bits": STEPS},
        "another_seed": noise,
        "mlx": mlx and {"environment": mlx.environment, "distances": apart},
        "absent": one.absent,
        "problem": problem,
    }
    report.write(place, "audio-parity", content)
    if problem:
        console.say("rvc", problem)
    return 1 if problem else 0


def planned(options: argparse.Namespace, one: Side) -> Plan:
    """What is converted, its warnings told."""
    duration_s = options.duration_s
    if duration_s is None and options.audio is None:
        duration_s = DEFAULT_S
    plan = resolve(request(duration_s, audio=options.audio), one.setup)
    for warning in plan.warnings:
        console.say("rvc", f"warning: {warning}")
    return plan


def stages(result: Result) -> str:
    """Where the wall went."""
    lines = [
        f"  {name:<12}{1e3 * seconds:>11.2f} ms {seconds / result.wall_s:>7.1%}"
        for name, seconds in result.stages_s.items()
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
