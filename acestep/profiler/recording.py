"""The record of a run, written from its first line to its last item; nothing where no file is named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from acestep.profiler.options import Options
from acestep.setup import Setup
from acestep.subject import SUBJECT
from harness import console
from harness.records import machine
from harness.records import writer as output
from harness.records.making import header as header_of
from harness.records.schema import Item
from harness.records.writer import Writer
from harness.text import harmless


class Recording:
    """Where items go. `kept`: those an interrupted run of the same command finished, by key.

    Raises UsageError, before anything runs, when the file's place will not do.
    """

    def __init__(self, options: Options, setup: Setup, *, resume: bool = False):
        self.kept: Mapping[str, Item] = {}
        self._writer: Writer | None = None
        if (path := options.benchmark_output) is not None:
            header = header_of(
                SUBJECT,
                setup,
                options.mode,
                argv=sys.argv[1:],
                origins=options.origins,
                dit=setup.dit,
                lm=setup.lm,
                lm_backend=setup.lm_backend or None,
            )
            if resume and path.is_file():
                self.kept = output.done(path, header)
                console.say("profile_inference", _taken_over(path, len(self.kept)))
            self._writer = Writer(path, header, self.kept.values(), json_compat=options.json_compat)
            self.path: Path = path

    def add(self, item: Item) -> None:
        """Write an item down, at once."""
        if self._writer:
            # Threads and CUDA are known since the engine is loaded.
            self._writer.header = replace(
                self._writer.header, machine=machine.read(), versions=machine.versions()
            )
            self._writer.add(item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer and kind is None:
            self._writer.close()
            print(f"results  {harmless(str(self.path))}")


def _taken_over(path: Path, rows: int) -> str:
    if rows:
        return f"kept from {str(path)!r}: {rows}; --no-resume runs everything again"
    return (
        f"no finished row of {str(path)!r} is of this commit, unchanged, on this machine; it is written anew"
    )
