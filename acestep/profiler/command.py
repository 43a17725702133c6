"""The command `profile_inference.py`: from a command line to a mode, and every mistake to one line.

    python profile_inference.py --thinking --duration 60
    python profile_inference.py --mode benchmark --budget 10m --benchmark-output results.json

Exit codes: 0 done, 1 a run failed, 2 usage, 3 a device, weights or a part of the engine is missing,
4 the harness itself failed, 130 and 143 interrupted. Whatever can be refused is refused before torch is
imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from acestep.profiler.flags import TIER_TEST
from acestep.profiler.options import Options, named, parse
from harness import console
from harness.accelerators import MAX_VRAM_VARIABLE
from harness.flags import as_typed, spelled


def main(argv: Sequence[str] | None = None, *, tier_test: Callable[[Sequence[str]], int]) -> int:
    """Run what a command line asks for; returns the exit code. `tier_test` runs tiersim's command line."""

    words = sys.argv[1:] if argv is None else argv
    typed = as_typed(words)

    def command() -> int:
        with spelled(typed):
            return profile(parse(words))

    def profile(options: Options) -> int:
        if options.mode == TIER_TEST:
            console.warn("profile_inference", options.left_out.warnings)
            return tier_test([typed.get(word, word) for word in options.tiersim])
        if options.max_vram_gb is not None:
            os.environ[MAX_VRAM_VARIABLE] = f"{options.max_vram_gb:g}"
        from acestep.profiler import modes

        with named(options.origins), spelled(options.example_names):
            return modes.run(options)

    return console.run("profile_inference", command)
