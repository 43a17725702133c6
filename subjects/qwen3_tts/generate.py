"""Speech as files: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness import console
from harness.checks import check_threads
from harness.errors import BenchError, UsageError
from harness.files import folder_for_audio
from harness.flags import text
from harness.progress import following
from harness.reading import read_text
from harness.sound import duration_s
from harness.text import harmless
from subjects.qwen3_tts.plan import resolve
from subjects.qwen3_tts.progress import parts
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

FIELDS = ("language", "speaker", "instruct", "reference", "reference_text", "batch_size", "seed", "greedy")


def run(options: argparse.Namespace) -> int:
    """Speak; returns the exit code: 0 done, 1 what came is no speech. Raises BenchError."""
    check_threads(options.threads)
    if (options.text is None) == (options.text_ids is None):
        raise UsageError("text: give it, or its tokens by --text-ids")
    fields = {name: value for name in FIELDS if (value := getattr(options, name)) is not None}
    if options.text is None:
        fields["text_ids"] = _listed("text_ids", options.text_ids)
    else:
        fields["text"] = text("text", options.text)
    if options.reference_codes is not None:
        fields["reference_codes"] = _listed("reference_codes", options.reference_codes)
    setup = Setup.choose(
        options.source,
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        graphs=options.graphs,
        strict=options.strict,
    )
    plan = resolve(request(options.duration_s, **fields), setup)
    if plan.request.reference:
        duration_s("reference", plan.request.reference)
    folder = folder_for_audio("--out", options.out)
    for warning in plan.warnings:
        console.say("qwen3_tts", f"warning: {warning}")
    with following("loading", parts(plan)) as progress:
        engine = SUBJECT.load(setup, threads=options.threads)
        progress.begin("speaking")
        result = engine.run(plan, folder)
    for audio in result.audios:
        print(
            harmless(f"{audio.tensor.shape[-1] / audio.sample_rate:.2f} s, seed {audio.seed}: {audio.path}")
        )
    rates = f"rtf {result.rtf:.3f} (wall over audio), {result.x_realtime:.2f}x real time"
    print(f"wall {result.wall_s:.2f} s, {rates}")
    if problem := SUBJECT.check(result, plan):
        console.say("qwen3_tts", problem)
        return 1
    return 0


def _listed(name: str, path: Path) -> tuple[Any, ...]:
    """The list in a JSON file. Raises as `read_text` does, and UsageError where it holds
    something else; about `name`."""
    import json

    try:
        values = json.loads(read_text(path))
    except BenchError as error:
        raise type(error)(f"{name}: {str(path)!r}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: {str(path)!r} is not JSON: {error}") from None
    if not isinstance(values, list):
        raise UsageError(f"{name}: {str(path)!r} holds no list; write [1, 2, 3]")
    return tuple(values)
