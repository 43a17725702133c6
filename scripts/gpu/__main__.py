"""What the card here does, in twelve minutes: tests, calibration, times, peaks, energy.

    python -m scripts.gpu                          # or: make gpu
    python -m scripts.gpu --parts calibration stages --budget 5m
    python -m scripts.gpu --device cpu --source synthetic-tiny     # tries it out, without a card

Parts come in the order in which each is worth having if the rest is cut, and each has its share of the
budget. What is measured is in the file of --out at once, with a report in Markdown beside it; a run that was
ended goes on from there. The calibration goes to calibrations/, from where predictions take it: it is what to
send.

Exit codes: 0 measured, or not to be had here, 1 something failed, 2 usage, 3 no card or no weights, 4 the
harness itself failed, 129, 130 and 143 interrupted.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import console
from harness.console import Parser, named
from harness.errors import UsageError
from harness.flags import span, spelled, spellings
from scripts.gpu.plan import BUDGET_S, NAMES, PARTS, SPARE_S, listing

OUT = Path("outputs/gpu.json")


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(
        prog="python -m scripts.gpu", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=NAMES, default=NAMES, metavar="PART", help=", ".join(NAMES))
    add("--budget", type=span, default=BUDGET_S, metavar="TIME", help="stop in time (12m)")
    add("--device", type=named, default="auto", help="cuda, cuda:N, or cpu to try it out (the card)")
    add("--source", type=named, help="synthetic-tiny, synthetic-full or a checkpoint folder (this machine's)")
    add("--out", type=Path, default=OUT, metavar="FILE", help=f"the record, .json; .md beside it ({OUT})")
    add("--calibrations", type=Path, metavar="DIR", help="where the card's calibration goes (calibrations)")
    add("--fresh", action="store_true", help="measure again what the file has; it is kept under another name")
    add("--dry-run", action="store_true", help="print the parts and their minutes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""

    def measure() -> int:
        parser, words = arguments(), sys.argv[1:] if argv is None else argv
        options = parser.parse_args(words)
        if not options.budget > SPARE_S:
            raise UsageError(f"--budget: {options.budget:g} s is too little; use more than {SPARE_S:g}s")
        parts = [part for part in PARTS if part.name in options.parts]
        if options.dry_run:
            print(listing(parts, options.budget))
            return 0
        from scripts.gpu import run

        with spelled(spellings(parser, words)):
            return run.run(options, parts)

    return console.run("gpu", measure)


if __name__ == "__main__":
    sys.exit(main())
