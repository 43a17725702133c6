"""A folder of made-up weights in the published layout: the command."""

from __future__ import annotations

import argparse

from harness.text import harmless


def run(options: argparse.Namespace) -> int:
    """Write it; returns the exit code. Raises UsageError for a folder that holds something else."""
    from subjects.rvc.weights import Synthetic, write

    folder = write(Synthetic(options.source, options.model, options.seed), options.folder)
    print(harmless(str(folder)))
    return 0
