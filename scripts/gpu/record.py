"""The record of a run: a JSON file, written after each row, which a report is made of and a run goes on from.

    with Results(path, facts, fresh=False) as results:
        results.add("stages", row)

Nothing measured is lost: a file of another commit, card or torch is copied to another name first, and a file
that is none of ours is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from harness.errors import BenchError, UsageError
from harness.files import alone, keep, regular, writable, write_whole
from harness.records.machine import Machine
from harness.records.schema import Item, encode
from harness.text import harmless
from scripts.gpu.plan import Part

SCHEMA = "acestep-gpu/1"
TITLE = "# acestep-bench on "  # how a report begins
MAX_BYTES = 2**26

Status = Literal["ok", "n/a", "skip", "failed"]
Value = float | int | str | bool | None


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing measured, or why not. Units are in the names of `values`; `items`: runs of the engine;
    `exception`: what was raised where `reason` says it in other words; `needs_s`: what it would have taken,
    where there was no time."""

    name: str
    status: Status
    reason: str = ""
    values: Mapping[str, Value] = {}
    items: tuple[Item, ...] = ()
    took_s: float = 0.0
    exception: str | msgspec.UnsetType = msgspec.UNSET
    needs_s: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether a run that goes on from here need not measure it again."""
        return self.status in ("ok", "n/a")


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came of a part. `ended`: None while it runs, and where the run was ended in it; cut: its time was
    none, or too little.

    `reason`: why it is not whole; `had_s`: the time that was too little, where it was begun.
    """

    rows: Mapping[str, Row] = {}
    ended: Literal["whole", "cut", "broken"] | None = None
    reason: str = ""
    took_s: float = 0.0
    had_s: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether a run that goes on from here has nothing to do for it."""
        return self.ended == "whole" and all(row.settled for row in self.rows.values())

    def needs_s(self, part: Part) -> float:
        """What is left to do of `part` for want of time: all of it where it was not begun, or ended early;
        twice what was too little."""
        if self.ended in (None, "cut"):
            return max(part.seconds, 2 * self.had_s)
        return sum(row.needs_s for row in self.rows.values())

    @property
    def status(self) -> Status:
        """Of the part: failed if any of it did, skip if cut short, else ok if any of it was measured."""
        statuses = {row.status for row in self.rows.values()}
        if "failed" in statuses or self.ended == "broken":
            return "failed"
        if self.ended in (None, "cut") or not statuses - {"skip"}:
            return "skip"
        return "ok" if "ok" in statuses else "n/a"


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What has to be the same for measurements to go together. `code`: a digest of what runs."""

    commit: str | None
    code: str
    torch: str
    source: str
    device: str
    card: str
    memory_gib: float


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="schema", tag=SCHEMA
):
    """A whole run: `{"schema": SCHEMA, "facts": ..., "parts": {"tests": ..., ...}}`."""

    facts: Facts
    dirty: bool | None  # whether files differ from the commit
    machine: Machine
    started_utc: datetime
    budget_s: float
    spent_s: float = 0.0
    parts: Mapping[str, Outcome] = {}
    calibration: str | None = None  # the file that was written


class Results:
    """The file of a run, which no other run writes meanwhile, and the report beside it.

    `kept_as`: where a file of another run is now. Raises UsageError, before anything runs, for a place that
    will not do.
    """

    def __init__(self, path: Path, record: Record, *, fresh: bool = False):
        self.record = record
        self.kept_as: Path | None = None
        if path.suffix != ".json":
            raise UsageError(f"out: {str(path)!r} must end in .json; its report ends in .md")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"out: {str(path.parent)!r} cannot be made: {error.strerror}") from None
        self.path = writable("out", path, lambda head: f'"{SCHEMA}"'.encode() in head)
        self.report = writable("out", path.with_suffix(".md"), lambda head: head.startswith(TITLE.encode()))
        with ExitStack() as lock:
            lock.enter_context(alone("out", path, self.path))
            if self.path.exists() and self.path.stat().st_size:
                earlier = None if fresh else read(self.path)
                if earlier and earlier.facts == record.facts:
                    there = {"parts": earlier.parts, "spent_s": earlier.spent_s}
                    self.record = msgspec.structs.replace(record, **there)
                else:
                    self.kept_as = keep(self.path)
            self._lock = lock.pop_all()

    def begin(self, part: str) -> Outcome:
        """What of a part is there. Its rows stay until others take their places."""
        before = self.outcome(part)
        self._put(part, Outcome(rows=before.rows, took_s=before.took_s, had_s=before.had_s))
        return before

    def add(self, part: str, row: Row) -> None:
        """Write a row down, at once. Raises BenchError when it cannot be."""
        outcome = self.outcome(part)
        self._put(part, msgspec.structs.replace(outcome, rows={**outcome.rows, row.name: row}))

    def end(self, part: str, **fields: Any) -> Outcome:
        """Write how a part ended."""
        self._put(part, msgspec.structs.replace(self.outcome(part), **fields))
        return self.outcome(part)

    def change(self, **fields: Any) -> None:
        """Write other fields of the record."""
        self.record = msgspec.structs.replace(self.record, **fields)
        self._write(self.path, msgspec.json.format(encode(self.record)) + b"\n")

    def outcome(self, part: str) -> Outcome:
        return self.record.parts.get(part, Outcome())

    def write_report(self, text: str) -> None:
        self._write(self.report, text.encode(errors="backslashreplace"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _put(self, part: str, outcome: Outcome) -> None:
        self.change(parts={**self.record.parts, part: outcome})

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_whole(path, data)
        except OSError as error:
            raise BenchError(
                f"out: {str(path)!r} cannot be written: {error.strerror}; it is as before: "
                "with room for it, start again"
            ) from None


def new(facts: Facts, dirty: bool | None, machine: Machine, budget_s: float) -> Record:
    """The record of a run that begins now."""
    return Record(facts=facts, dirty=dirty, machine=machine, started_utc=datetime.now(UTC), budget_s=budget_s)


def read(path: Path) -> Record:
    """Read a record. Raises UsageError naming the file and what is wrong with it."""
    try:
        with regular(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"out: {str(path)!r}: over {MAX_BYTES >> 20} MiB are no record; name another")
        return msgspec.json.decode(data, type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = harmless(getattr(error, "strerror", None) or str(error))
        raise UsageError(f"out: {str(path)!r} cannot be read ({reason}); name another, or move it") from None
