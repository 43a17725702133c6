"""The measuring commands: what their flags come to. What cannot be run is refused before torch is imported.

Each checks its flags, and hands values to a module that measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from harness import console
from harness.checks import within
from harness.errors import UsageError
from harness.files import folder_for_audio
from subjects.rvc.bench.report import Report
from subjects.rvc.bench.sides import Sides
from subjects.rvc.config import FRAME_RATE
from subjects.rvc.plan import Plan, resolve
from subjects.rvc.request import LEAST_S, MOST_S, request

MOST_FRAMES = 360_000
LENGTHS_S = (5.0, 30.0, 60.0, 180.0, 300.0)
QUICK = 2  # of them
DEFAULT_S = 5.0  # of a made-up voice
OUTPUTS = "outputs"  # the folder of --save-outputs
ALL, CHUNKING = "all", "chunking"  # tests, of which the one has lengths


def rmvpe(options: argparse.Namespace) -> int:
    """Pitch by length."""
    lengths = LENGTHS_S[:QUICK] if options.quick else LENGTHS_S
    if options.duration_s is not None:
        if options.quick:
            raise UsageError("--quick: given together with --duration; use one of them")
        within("duration_s", options.duration_s, LEAST_S, MOST_S)
        lengths = (options.duration_s,)
    report, sides = Report("rmvpe", options.json), Sides.of(options)
    _tell(report, sides)
    from subjects.rvc.bench import pitch

    return pitch.run(sides, report, lengths)


def components(options: argparse.Namespace) -> int:
    """Networks by themselves."""
    report, frames = Report("components", options.json), _frames(options.duration_s)
    sides = Sides.of(options)
    _tell(report, sides)
    from subjects.rvc.bench import components

    return components.run(sides, report, options.component, frames)


def full(options: argparse.Namespace) -> int:
    """Synthesis."""
    report, frames = Report("full", options.json), _frames(options.duration_s)
    sides = Sides.of(options)
    _tell(report, sides)
    from subjects.rvc.bench import synthesis

    return synthesis.run(sides, report, frames)


def audio_parity(options: argparse.Namespace) -> int:
    """Whole conversions."""
    if options.output_dir and not options.save_outputs:
        raise UsageError("--out: given without --save-outputs; add it")
    report, sides = Report("audio-parity", options.json), Sides.of(options)
    plan, folder = _planned(options, report, sides), None
    if options.save_outputs:
        folder = folder_for_audio("--out", options.output_dir or Path(OUTPUTS))
    from subjects.rvc.bench import audio

    return audio.run(sides, report, plan, folder)


def e2e(options: argparse.Namespace) -> int:
    """A conversion in a fresh process."""
    report, sides = Report("e2e", options.json), Sides.of(options)
    plan = _planned(options, report, sides)
    from subjects.rvc.bench import fresh

    return fresh.run(sides, report, plan)


def test(options: argparse.Namespace) -> int:
    """What has to hold."""
    if options.frames and options.which not in (ALL, CHUNKING):
        raise UsageError(f"--frames: is of the test {CHUNKING}; leave it out of {options.which}")
    for frames in options.frames or ():
        within("frames", frames, 1, MOST_FRAMES, kind=int)
    report, sides = Report("test", options.json), Sides.of(options, has_mlx=False)
    _tell(report, sides)
    from subjects.rvc.bench import proof

    return proof.run(sides, report, options.which, tuple(options.frames or proof.FRAMES))


def _frames(duration_s: float) -> int:
    within("duration_s", duration_s, 1 / FRAME_RATE, MOST_S)
    return round(duration_s * FRAME_RATE)


def _planned(options: argparse.Namespace, report: Report, sides: Sides) -> Plan:
    """What is converted."""
    duration_s = options.duration_s
    if duration_s is None and options.audio is None:
        duration_s = DEFAULT_S
    plan = resolve(request(duration_s, audio=options.audio, index=options.index), sides.setup)
    report.note(plan=plan.as_dict())
    _tell(report, sides, plan.warnings)
    return plan


def _tell(report: Report, sides: Sides, warnings: Sequence[str] = ()) -> None:
    """Note which backends do not run; tell and note `warnings` and what there is to know of the setups."""
    setups = [sides.setup, *filter(None, [sides.mlx])]
    lines = [*dict.fromkeys((*warnings, *(note for setup in setups for note in setup.notes)))]
    report.note(absent=sides.absent, warnings=lines)
    console.warn("rvc", lines)
