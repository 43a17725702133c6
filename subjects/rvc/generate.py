"""A recording in another voice, as files: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse

from harness import console
from harness.checks import check_threads
from harness.files import folder_for_audio
from harness.progress import following
from harness.text import harmless
from subjects.rvc.plan import resolve
from subjects.rvc.progress import parts
from subjects.rvc.request import request
from subjects.rvc.setup import Setup
from subjects.rvc.subject import SUBJECT

FIELDS = (
    *("audio", "transpose", "speaker", "seed", "batch_size", "length", "interpolate_pitch", "mel_padding"),
    *("index", "index_rate", "protect", "rms_mix_rate", "resample_hz"),
)


def run(options: argparse.Namespace) -> int:
    """Convert; returns the exit code: 0 done, 1 what came is no conversion. Raises BenchError."""
    check_threads(options.threads)
    fields = {name: value for name in FIELDS if (value := getattr(options, name)) is not None}
    setup = Setup.choose(
        options.source,
        model=options.model,
        voice=options.voice,
        device=options.device,
        strict=options.strict,
    )
    plan = resolve(request(options.duration_s, **fields), setup)
    for warning in plan.warnings:
        console.say("rvc", f"warning: {warning}")
    folder = folder_for_audio("--out", options.out)
    with following("loading", parts(plan)) as progress:
        engine = SUBJECT.load(setup, threads=options.threads)
        progress.begin("converting")
        result = engine.run(plan, folder)
    for audio in result.audios:
        length_s = len(audio.samples) / audio.sample_rate
        print(harmless(f"{length_s:.2f} s, seed {audio.seed}: {audio.path}"))
    rates = f"rtf {result.rtf:.3f} (wall over audio), {result.x_realtime:.2f}x real time"
    print(f"wall {result.wall_s:.2f} s, {rates}")
    if problem := SUBJECT.check(result, plan):
        console.say("rvc", problem)
        return 1
    return 0
