"""A run as Markdown: the answer, what was found, and a row for every case."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import forms
from harness.records.schema import Profile
from harness.registry import FORMAT
from tiersim.answer import HEADS, Answer

TITLE = "# Tier test: "
MARK = f"<!-- {FORMAT}tier-test -->"  # told by a renderer to nobody


def summary(answer: Answer, profile: Profile, tables: Sequence[str]) -> bytes:
    """The whole file. `tables`: what was printed at the end, as it was."""
    lines = [f"{TITLE}{forms.escaped(answer.headline)} {MARK}", ""]
    if answer.lines:
        lines += [_row(HEADS), "|---" * len(HEADS) + "|", *(_row(line.cells) for line in answer.lines), ""]
    lines += [f"- {forms.escaped(line)}" for line in answer.largest]
    blocks = "".join(map(forms.fenced, tables))
    text = "\n".join([*lines, blocks, "## Every case", "", ""])
    return text.encode(errors="backslashreplace") + forms.markdown(profile)


def is_summary(head: bytes) -> bool:
    """Whether a file that begins with `head` is one of these."""
    return head.startswith(TITLE.encode()) and MARK.encode() in head.partition(b"\n")[0]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(forms.escaped, cells))} |"
