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
            self._writer = Writer(path, header, resume=resume, json_compat=options.json_compat)
            self.path: Path = path
            self.kept = self._writer.finished
            if self._writer.kept_as:
                console.say("profile_inference", self._writer.kept_note)
            elif self.kept:
                console.say(
                    "profile_inference",
                    f"kept from {str(path)!r}: {len(self.kept)}; --no-resume runs everything again",
                )

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
        if self._writer:
            self._writer.__exit__(kind, error, trace)
            if kind is None:
                print(f"results  {harmless(str(self.path))}")
