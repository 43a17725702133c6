"""Where figures go as soon as they are measured: the terminal, of 80 columns, a JSON file. No torch here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.files import rewrite, writable
from harness.records import machine

NAME, VERSION = "rvc-bench/", 2
HEAD = f'{{\n  "format": "{NAME}'


class Report:
    """The figures of a command. Each is shown and in the file at `path`, if any, as soon as it is there, so
    that whatever ends the run takes nothing of what was measured. Raises UsageError for a place that cannot
    be written, or is another's."""

    def __init__(self, command: str, path: Path | None) -> None:
        self.figures: dict[str, Any] = {}
        self._path = writable("--json", path, lambda head: head.startswith(HEAD.encode())) if path else None
        self._known: dict[str, Any] = {"format": f"{NAME}{VERSION}", "command": command}

    def note(self, **figures: Any) -> None:
        """What goes into the file beside what is measured next: a dictionary into the one of its name, a list
        behind its."""
        for name, value in figures.items():
            before = self.figures.get(name)
            if isinstance(value, Mapping) and isinstance(before, Mapping):
                value = {**before, **value}
            elif isinstance(value, list) and isinstance(before, list):
                value = [*before, *value]
            self.figures[name] = value

    def add(self, text: str | None, **figures: Any) -> None:
        """Show `text`, if any, and write the file with what was measured.

        Raises BenchError when the place can no longer be written; the file is as before then.
        """
        self.note(**figures)
        try:
            if text is not None:
                print(text, flush=True)
        finally:
            self._write()

    def _write(self) -> None:
        """The figures so far, with the commit, the machine and the versions they are of."""
        if self._path is None:
            return
        if "commit" not in self._known:
            commit, dirty = machine.revision()
            facts = {"machine": machine.read(), "versions": machine.versions()}
            self._known |= {"commit": commit, "dirty": dirty} | msgspec.to_builtins(facts)
        rewrite(self._path, as_json(self._known | self.figures).encode() + b"\n")


def as_json(figures: Mapping[str, Any]) -> str:
    """Figures as JSON; null is what is not finite, as the ratio of a signal to no noise."""
    return json.dumps(_finite(figures), indent=2, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [*map(_finite, value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def head(names: Sequence[str], widths: Sequence[int]) -> str:
    """What stands above the rows of a table."""
    return f"{row(names, widths)}\n{'-' * sum(widths)}"


def row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Columns of `widths`, the first at the left."""
    first, *others = zip(cells, widths, strict=True)
    return (first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)).rstrip()


def absent(reasons: Mapping[str, str]) -> None:
    """Tell which backends did not run."""
    for backend, reason in reasons.items():
        print(f"{backend}: n/a: {reason}")
