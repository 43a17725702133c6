"""A folder of made-up weights in the published layout: the command."""

from __future__ import annotations

import argparse

from harness.checks import within
from harness.errors import MissingPrerequisite
from harness.text import harmless
from subjects.qwen3_tts.request import MAX_SEED


def run(options: argparse.Namespace) -> int:
    """Write it; returns the exit code. Raises UsageError for a folder that holds something else,
    MissingPrerequisite where it cannot be written."""
    within("seed", options.seed, 0, MAX_SEED, kind=int)
    from subjects.qwen3_tts.weights import Synthetic, write

    try:
        folder = write(Synthetic(options.source, options.model, options.seed), options.folder)
    except OSError as error:
        raise MissingPrerequisite(
            f"folder: {str(options.folder)!r}: cannot write the checkpoint: {error}"
        ) from None
    print(harmless(str(folder)))
    return 0
