"""Is HEAD slower than BASE?

    python -m scripts.gate main                  # the working tree, against main
    python -m scripts.gate main my-branch --budget 10m
    python -m scripts.gate main --only 'TimeDiT|TrackCost'

    0  same, faster     nothing became slower: each series' interval says so
    1  slower           at least one series is, or a card that was enough no longer is
    2  cannot tell      the noise could hide a slowdown that matters, and the time is over
       not measured     a cell failed on HEAD, or there was nothing to compare
    4  failed           the gate itself did, as on a full disk

What has no noise is compared first (`exact.py`), then both commits are timed in turns (`timing.py`) on this
one machine: results of another, or of another run, are compared with none. Interrupted, it tells what was
measured by then, and the exit code is the signal's. The run is written to
`.asv/gate.json`, from which the table here, the job summary and a pull request's comment are made.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import argparse
import os
import re
import sys
from pathlib import Path

from harness import console
from harness.errors import UsageError
from harness.flags import span

BUDGET_S = 20 * 60.0


def main() -> int:
    """The command; returns its exit code."""
    return console.run("gate", gate, failed=console.BUG)  # 1 says slower


def gate() -> int:
    """Compare both commits; returns the exit code of the verdict."""
    options = _options()
    from scripts import asv_selection  # what compares, once it is known what
    from scripts.gate import record
    from scripts.gate.comparison import compare
    from scripts.gate.markdown import markdown
    from scripts.gate.table import table

    asv_selection.ready()
    outcome, interrupt = compare(options.base, options.head, options.budget, options.only)
    try:
        record.write(record.PATH, outcome)
    finally:  # what was measured is told, also where there is no room for it
        print(table(outcome), end="")
    if "GITHUB_STEP_SUMMARY" in os.environ:
        with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as summary:
            summary.write(markdown(outcome))
    if interrupt:
        raise interrupt
    return record.EXIT[outcome.verdict]


def arguments() -> argparse.ArgumentParser:
    """The flags."""
    parser = console.Parser(prog="python -m scripts.gate", description=__doc__.splitlines()[0])
    parser.add_argument("base", help="a commit")
    parser.add_argument("head", nargs="?", help="another (the working tree)")
    parser.add_argument("--budget", type=span, metavar="TIME", default=BUDGET_S, help="stop in time (20m)")
    parser.add_argument(
        "--only", type=_pattern, metavar="REGEX", default="",
        help="the series whose names, as asv has them, it is found in",
    )  # fmt: skip
    return parser


def _options() -> argparse.Namespace:
    options = arguments().parse_args()
    if not options.budget > 0:
        raise UsageError(f"--budget: {options.budget:g} is no time; use 90s, 10m or 1h")
    return options


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text[:60]!r} is no pattern: {error}") from None
    return text


if __name__ == "__main__":
    sys.exit(main())
