"""Speech as files: the command. torch waits until the plan is known."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from harness import generate
from harness.checks import check_threads
from harness.errors import BenchError, UsageError
from harness.flags import text
from harness.reading import read_text
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
    return generate.run(options, SUBJECT, plan, "speaking", parts(plan))


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
