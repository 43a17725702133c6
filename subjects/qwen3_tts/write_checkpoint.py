"""A folder of made-up weights in the published layout: the command."""

from __future__ import annotations

import argparse

from harness import checkpoint_writing
from subjects.qwen3_tts import checkpoint


def run(options: argparse.Namespace) -> int:
    """Write it; returns the exit code. Raises as `checkpoint_writing.run`."""
    return checkpoint_writing.run(options, checkpoint.begin, "subjects.qwen3_tts.weights")
