"""Where figures go: the terminal, in 80 columns, and a JSON file. No torch import here."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import writable, write_whole
from harness.records import machine

FORMAT = "rvc-bench/1"
HEAD = f'{{\n  "format": "{FORMAT}"'


def place(options: argparse.Namespace) -> Path | None:
    """The file of --json, if any, which could be written. Raises UsageError."""
    return (
        writable("--json", options.json, lambda head: head.startswith(HEAD.encode()))
        if options.json
        else None
    )


def write(path: Path | None, command: str, content: Mapping[str, Any]) -> None:
    """The figures of a command, with the commit, the machine and the versions they are of."""
    if path is None:
        return
    commit, dirty = machine.revision()
    known = {"format": FORMAT, "command": command, "commit": commit, "dirty": dirty}
    known |= {"machine": _plain(machine.read()), "versions": _plain(machine.versions())}
    write_whole(path, json.dumps(known | dict(content), indent=2, default=str).encode() + b"\n")


def table(heads: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> str:
    """Columns of `widths`, the first at the left."""

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return (first[0].ljust(first[1]) + "".join(cell.rjust(width) for cell, width in others)).rstrip()

    return "\n".join([line(heads), "-" * sum(widths), *map(line, rows)])


def absent(reasons: Mapping[str, str]) -> None:
    """Tell which backends did not run."""
    for backend, reason in reasons.items():
        print(f"{backend}: n/a: {reason}")


def _plain(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)
