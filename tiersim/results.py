"""A folder of results: one file per case, written whole, and found again while nothing it rests on changed.

    DIR/cases/<key>.json    a record; the key is the case, the code, the weights and the machine
    DIR/results.json        all of a run in the profiler's format, a baseline for the next one
    DIR/summary.md          the answer, then the same as tables
    DIR/report.html         the answer, the fit matrix, and each case's memory over time

One run writes here at a time. One that is killed, however suddenly, is taken up where it was by the same
command.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.files import alone, writable, write_whole
from harness.page import is_page
from harness.records import machine
from harness.records.forms import only_shown
from harness.records.schema import encode
from harness.records.writer import read
from harness.trace import calibration
from tiersim.case import Plan
from tiersim.record import Record, Status
from tiersim.summary import is_summary

Rerun = Literal["failed", "all"]
# What would end the same way again. A timeout or a crash may not.
SETTLED: frozenset[Status] = frozenset({"ok", "oom", "host-oom", "invalid", "refused"})
KEPT: dict[Rerun | None, frozenset[Status]] = {None: SETTLED, "failed": frozenset({"ok"}), "all": frozenset()}


class Results:
    """The cases of a folder, and where its `summary` and its `page` go.

    Raises UsageError when it cannot be written, when another run is writing it, and when a file of others is
    in the place of one of these.
    """

    def __init__(self, folder: Path, rerun: Rerun | None = None):
        self._cases, summary, page = folder / "cases", folder / "summary.md", folder / "report.html"
        self._kept = KEPT[rerun]
        self._stamps: dict[str, str] = {}
        self._lock = ExitStack()
        try:
            self._cases.mkdir(parents=True, exist_ok=True)
            self.summary = writable(
                "out", summary, lambda head: is_summary(head) or only_shown(summary, head)
            )
            self.page = writable("out", page, is_page)
            self._lock.enter_context(alone("out", folder, self._cases))
        except OSError as error:
            raise UsageError(
                f"out: {str(folder)!r} cannot be written: {error.strerror}; name another"
            ) from None

    def find(self, plan: Plan) -> Record | None:
        """The record of an earlier run of the same case, unless it has to be run again."""
        try:
            record = msgspec.json.decode(read(self._path(plan)), type=Record)
        except (OSError, MissingPrerequisite, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # not there, or of a version that is no longer read
        return record if record.status in self._kept else None

    def add(self, plan: Plan, record: Record) -> None:
        """Write a record down. Raises BenchError when it cannot be."""
        write(self._path(plan), msgspec.json.format(encode(_plain(record))) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()  # others may write here now

    def _path(self, plan: Plan) -> Path:
        if plan.source not in self._stamps:
            self._stamps[plan.source] = stamp(plan.source)
        rests_on = f"{plan.key} {self._stamps[plan.source]}"
        if plan.card and (measured := calibration.find(plan.card).measured):
            rests_on += f" {measured}"
        return self._cases / f"{hashlib.sha256(rests_on.encode()).hexdigest()[:16]}.json"


def _plain(record: Record) -> dict[str, Any]:
    """A record as plain values; what a case does not choose, or its machine not tell, is left out, as before
    there was such a thing."""
    values = msgspec.to_builtins(record)
    for name in ("process", "stage_processes", "telemetry", "exception"):
        if not values[name]:
            del values[name]
    for case in (values["requested"], values["effective"]):
        if not case["choices"]:
            del case["choices"]
    return values


def write(path: Path, data: bytes) -> None:
    """Write `path` completely or not at all. Raises BenchError when it cannot be."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise BenchError(
            f"out: {str(path)!r} cannot be written: {error.strerror}; with room for it, start again: "
            "what is kept is not repeated"
        ) from None


def stamp(source: str) -> str:
    """What a result rests on besides its case: the code, the weights, the machine and its libraries.

    The code is its text, so that an uncommitted change counts, and a comment too. Weights of a folder are
    told by the names, sizes and times of their files.
    """
    facts = [machine.code(), source, *_files(Path(source)), machine.read().lasting, machine.versions()]
    return hashlib.sha256(encode(facts, order="deterministic")).hexdigest()


def _files(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    facts = ((path.relative_to(folder), path.stat()) for path in files)
    return [(str(name), stat.st_size, stat.st_mtime_ns) for name, stat in facts]
