"""What changed over the history of this branch, by how much, at which commit; and what is only noise.

    python -m scripts.changes
    python -m scripts.changes --format markdown >> "$GITHUB_STEP_SUMMARY"

Read from `.asv/results`, whatever measured there; nothing is measured anew.
"""

from __future__ import annotations

if __name__ == "__main__":  # before anything else is imported
    from harness import interrupts

    interrupts.end_quietly()

import json
import sys
from dataclasses import asdict

from harness import console


def main() -> int:
    """The command; returns its exit code."""
    return console.run("changes", changes)


def changes() -> int:
    """Print the report."""
    parser = console.Parser(prog="python -m scripts.changes", description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    options = parser.parse_args()
    from rich.console import Console  # what is read with, once it is known that it is

    from scripts.changes.history import read
    from scripts.changes.report import report
    from scripts.changes.show import markdown, text

    changed = report(read())
    if options.format == "json":
        print(json.dumps(asdict(changed), indent=1, allow_nan=False))
    elif options.format == "markdown":
        print(markdown(changed), end="")
    else:
        terminal = Console(soft_wrap=True)
        for style, line in text(changed):
            terminal.print(line, style=style or None, markup=False, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
