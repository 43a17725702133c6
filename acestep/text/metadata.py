"""The song's metadata: what the user gave, what the language model planned, and their text forms.

Two text forms feed the models. The LM thinks in YAML (`to_yaml`, read back by `parse`); the DiT's caption
branch reads a list of four lines (`metas`).

    >>> print(Metadata(bpm=100, keyscale="E♭ minor", language="no").to_yaml())
    bpm: 100
    keyscale: E♭ minor
    language: 'no'
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields

import yaml

UNTOLD_S = 30  # what upstream's template says of a song whose length is open; a generation's never is
# Where a chain of thought ends: its closing tag at the start of a line, or any special token after it.
END_OF_THOUGHT = re.compile(r"^</think>|<\|(?:im_end|endoftext|audio_code_\d+)\|>", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata fields in the order of the YAML keys; None where nobody has decided."""

    bpm: int | None = None
    caption: str | None = None  # the LM's rewriting; the user's own caption is part of the request
    duration: int | None = None  # seconds
    genres: str | None = None  # descriptions only; no plan has it
    keyscale: str | None = None
    language: str | None = None
    timesignature: str | None = None

    def to_yaml(self) -> str:
        """YAML of the decided fields, keys sorted, without a final newline.

        Whole numbers are written as numbers, and a time signature of `x/4` as `x`, as in training.
        """
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if self.timesignature is not None:
            values["timesignature"] = self.timesignature.removesuffix("/4")
        numbers = {name: int(value) for name, value in values.items() if str(value).isdecimal()}
        # In Python, as the chains of thought of the training were dumped: libyaml escapes an emoji.
        text = yaml.safe_dump(values | numbers, allow_unicode=True, sort_keys=True) if values else ""
        return text.removesuffix("\n")

    def metas(self) -> str:
        """The list under `# Metas` of the DiT's caption prompt."""
        return (
            f"- bpm: {self.bpm or 'N/A'}\n"
            f"- timesignature: {self.timesignature or 'N/A'}\n"
            f"- keyscale: {self.keyscale or 'N/A'}\n"
            f"- duration: {UNTOLD_S if self.duration is None else self.duration:g} seconds\n"
        )


FIELDS = tuple(field.name for field in fields(Metadata))


def merge(user: Metadata, planned: Metadata) -> Metadata:
    """The user's fields, and the planned ones where the user left them open."""
    decided = {name: value for name, value in asdict(user).items() if value is not None}
    return Metadata(**asdict(planned) | decided)


def parse(text: str) -> Metadata:
    """Read the chain of thought at the start of `text`; fields that are absent or unreadable are None.

    An unindented `key: value` starts a field and indented lines continue it; lines are joined by single
    spaces, and lines of tags are skipped. Single quotes are undone (upstream keeps them, so that a quoted
    caption would gain a pair each time it is planned and written again).
    """
    lines: dict[str, list[str]] = {}
    name = ""
    for line in END_OF_THOUGHT.split(text, maxsplit=1)[0].split("\n"):
        if line.startswith((" ", "\t")):
            lines.setdefault(name, []).append(line.strip())
        elif ":" in line and not line.startswith("<"):
            name, value = line.split(":", 1)
            lines[name] = [value.strip()]
    values = {name: _value(name, " ".join(filter(None, lines.get(name, [])))) for name in FIELDS}
    return Metadata(**values)  # type: ignore[arg-type]


def _value(name: str, text: str) -> int | str | None:
    if name in ("bpm", "duration"):
        return int(text) if text.isdecimal() and len(text) < 10 else None
    if len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1].replace("''", "'")
    return text or None
