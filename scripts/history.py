"""The history of this branch as a table of Markdown: commits by figures, from the results that are there.

    python -m scripts.history >> "$GITHUB_STEP_SUMMARY"
    python -m scripts.history --last 50 --duration 60 --no-thinking

Every number is one of asv's results in `.asv/results`, whatever measured there; n/a is what was not measured
of a commit, or does not apply. Unlike machines have tables of their own.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import sys

from benchmarks._matrix import DURATIONS_S
from harness import console
from harness.checks import within
from harness.flags import whole

LAST, MOST = 20, 1_000


def main() -> int:
    """The command; returns its exit code."""
    return console.run("history", command)


def command() -> int:
    """Print the tables."""
    parser = console.Parser(
        prog="python -m scripts.history", description="The history as a table of Markdown."
    )
    parser.add_argument("--last", type=whole, default=LAST, metavar="N", help=f"commits at most ({LAST})")
    parser.add_argument("--duration", type=int, choices=DURATIONS_S, help="of audio (the shortest measured)")
    parser.add_argument("--thinking", action=argparse.BooleanOptionalAction, help="planned (where measured)")
    options = parser.parse_args()
    within("--last", options.last, 1, MOST, kind=int)
    from scripts.changes.figures import markdown  # what is read with, once it is known that it is
    from scripts.changes.history import read

    print(markdown(read(), options.last, options.duration, options.thinking), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
