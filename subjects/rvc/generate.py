"""A recording in another voice, as files: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse

from harness import generate
from harness.checks import check_threads
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
    return generate.run(options, SUBJECT, plan, "converting", parts(plan))
