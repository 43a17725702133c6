"""Speech as files: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse

from harness import console
from harness.checkpoint_files import read_whole
from harness.errors import UsageError
from harness.flags import text
from harness.text import harmless
from subjects.qwen3_tts.plan import resolve
from subjects.qwen3_tts.request import request
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.subject import SUBJECT

FIELDS = ("language", "speaker", "instruct", "reference", "batch_size", "seed", "greedy")
MAX_BYTES = 2**20  # of a list of tokens


def run(options: argparse.Namespace) -> int:
    """Speak; returns the exit code: 0 done, 1 what came is no speech. Raises BenchError."""
    if (options.text is None) == (options.text_ids is None):
        raise UsageError("text: give it, or its tokens by --text-ids")
    fields = {name: value for name in FIELDS if (value := getattr(options, name)) is not None}
    if options.text is None:
        fields["text_ids"] = _ids(options)
    else:
        fields["text"] = text("text", options.text)
    setup = Setup.choose(
        options.source,
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        graphs=options.graphs,
        strict=options.strict,
    )
    plan = resolve(request(options.duration_s, **fields), setup)
    for warning in plan.warnings:
        console.say("qwen3_tts", f"warning: {warning}")
    result = SUBJECT.load(setup, threads=options.threads).run(plan, options.out)
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


def _ids(options: argparse.Namespace) -> tuple[int, ...]:
    """The tokens in a file. Raises UsageError for what is no list of numbers."""
    import json

    try:
        ids = json.loads(read_whole(options.text_ids, MAX_BYTES))
    except ValueError as error:
        raise UsageError(f"text_ids: {str(options.text_ids)!r} is not JSON: {error}") from None
    if not isinstance(ids, list):
        raise UsageError(f"text_ids: {str(options.text_ids)!r} holds no list; write [1, 2, 3]")
    return tuple(ids)
