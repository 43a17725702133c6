"""The record of a run and the view of it, written from the first line to the last item; nothing where no file
is named."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from acestep.profiler.options import Options
from acestep.setup import Setup
from acestep.subject import SUBJECT
from harness import console
from harness.errors import BenchError
from harness.records import machine, performance_plan
from harness.records.making import header as header_of
from harness.records.schema import Header, Item
from harness.records.writer import Writer
from harness.text import harmless


class Recording:
    """Where items go. `kept`: those an interrupted run of the same command finished, by key.

    Raises UsageError, before anything runs, when the file's place will not do, and BenchError at its end when
    what was measured could not be written.
    """

    def __init__(self, options: Options, setup: Setup, *, resume: bool = False):
        self.kept: Mapping[str, Item] = {}
        self._file = options.request_file
        self._writers: dict[str, tuple[Path, Writer]] = {}  # by what the line that names the file begins with
        forms: dict[str, tuple[Path | None, dict[str, Any]]] = {
            "results": (options.benchmark_output, {"resume": resume, "json_compat": options.json_compat}),
            "plan": (options.json_plan, {"view": performance_plan.VIEW}),
        }
        with ExitStack() as opened:
            for name, (path, form) in forms.items():
                if path is not None:
                    writer = Writer(path, _header(options, setup), **form)
                    self._writers[name] = path, opened.enter_context(writer)
            self._opened = opened.pop_all()
        for path, writer in self._writers.values():
            if writer.kept_as:
                console.say("profile_inference", writer.kept_note)
            elif writer.finished:
                self.kept = writer.finished
                console.say(
                    "profile_inference",
                    f"kept from {str(path)!r}: {len(self.kept)}; --no-resume runs everything again",
                )

    def add(self, item: Item) -> None:
        """Write an item down, at once, and the file that it was asked for in.

        Where there is no room, the writer has it still: it is tried again with the next item, and at the end.
        """
        if self._file:
            item = replace(item, input=self._file.input_of(item.requested))
        # Threads and CUDA are known since the engine is loaded.
        known = {"machine": machine.read(), "versions": machine.versions()} if self._writers else {}
        for _, writer in self._writers.values():
            writer.header = replace(writer.header, **known)
            try:
                writer.add(item)
            except BenchError as error:
                console.warn("profile_inference", [f"{error}; it is tried again"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)
        if kind is None:
            for name, (path, _) in self._writers.items():
                print(f"{name:<9}{harmless(str(path))}")


def _header(options: Options, setup: Setup) -> Header:
    return header_of(
        SUBJECT,
        setup,
        options.mode,
        argv=sys.argv[1:],
        origins=options.origins,
        dit=setup.dit,
        lm=setup.lm,
        lm_backend=setup.lm_backend or None,
    )
