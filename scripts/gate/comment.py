"""The comment on a pull request, from what its gate left.

    python3 -m scripts.gate.comment .asv/gate.json HEAD    # prints Markdown

The record was written by the pull request's own code, in a workflow without rights: it is data, held against
its schema and the commit HEAD whose gate ran, and where it is none the comment says so. Needs the standard
library alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.errors import UsageError
from scripts.gate.markdown import code, markdown
from scripts.gate.record import read

FOOTER = "<sub>Measured and told by the code of the pull request, which could write anything here.</sub>"


def comment(path: Path, head: str) -> str:
    """The comment that is made of the record at `path`, which may be missing, and may be anything, or of
    another commit than `head`."""
    try:
        record = read(path)
        if record.head.sha != head:
            raise UsageError(f"it is of the commit {record.head.sha[:8]}, not of {head[:8]}")
        text = markdown(record)
    except UsageError as error:
        text = (
            f"### Gate: not measured\n\nThe gate left no record that can be read: {code(str(error), 200)}\n"
        )
    return f"{text}\n{FOOTER}\n"


if __name__ == "__main__":
    sys.stdout.write(comment(Path(sys.argv[1]), sys.argv[2]))
