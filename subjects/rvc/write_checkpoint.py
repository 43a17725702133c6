"""A folder of made-up weights in the published layout: the command."""

from __future__ import annotations

import argparse

from harness.checkpoint_writing import writing
from harness.checks import within
from harness.text import harmless
from subjects.rvc import synthetic_configs
from subjects.rvc.request import MAX_SEED


def run(options: argparse.Namespace) -> int:
    """Write it; returns the exit code. Raises UsageError for a folder that holds something else,
    MissingPrerequisite where it cannot be written."""
    within("seed", options.seed, 0, MAX_SEED, kind=int)
    with writing(options.folder):
        synthetic_configs.begin(options.source, options.model, options.folder)
        from subjects.rvc.weights import Synthetic, write

        folder = write(Synthetic(options.source, options.model, options.seed), options.folder)
    print(harmless(str(folder)))
    return 0
