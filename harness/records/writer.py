"""Records on disk: written after every item, so that a run that is killed loses only what it was doing.

    with Writer(Path("results.json"), header) as writer:    # refuses a bad place before anything runs
        for work in matrix:
            writer.add(measure(work))

Each `add` writes the whole file anew (`harness.files`), so there is a complete one at any moment. `.json` is
the record, and the only form that can be read back and resumed; `.csv` has a row per item and `.md` a table
to paste. `json_compat` writes the bare list of upstream's profiler instead.

Nothing measured is lost: one run writes a file at a time, what is no record is left alone, and a record that
is not gone on from is copied to another name first.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
from msgspec.structs import replace

from harness.checks import shown
from harness.errors import MissingPrerequisite, UsageError
from harness.files import alone, keep, regular, rewrite, would_be_lost, writable
from harness.records import schema as record
from harness.records.forms import form_of, only_shown
from harness.records.schema import Header, Item, Profile
from harness.records.view import View

FIELD = "benchmark_output"
MAX_BYTES = 2**28  # of a record that is read


class Writer:
    """A file of results in the making, which no other run writes meanwhile.

    `header` may be completed on the way, as when the engine is loaded. With `resume` the items of an earlier
    run of the same work stay in the file, from the first write on, and `finished` are those that ended well,
    by key. The same work is that of the same code, with the same weights on the same machine. Anything else
    that we wrote there has been copied to `kept_as`, None where nothing was. With a `view` that is
    what is written.

    Raises UsageError when the suffix or the place will not do, when another run is writing there, and when
    the file is no record, or one of another mode.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        *,
        resume: bool = False,
        json_compat: bool = False,
        view: View | None = None,
    ) -> None:
        self.header = header
        self.kept_as: Path | None = None
        self._form = view.encode if view else form_of(path, json_compat)
        flag = view.flag if view else FIELD
        self._path = writable(flag, path)
        self._items: dict[str, Item] = {}
        with ExitStack() as lock:
            lock.enter_context(alone(flag, path, self._path))
            if self._path.exists() and self._path.stat().st_size:
                earlier = _earlier(path, self._path, header.mode, view)
                if resume and not json_compat and earlier and header.continues(earlier.run):
                    self._items = {item.key: item for item in earlier.items}
                else:
                    self.kept_as = _kept(flag, path, self._path)
            self._lock = lock.pop_all()
        self.finished = {key: item for key, item in self._items.items() if item.status == "ok"}

    @property
    def kept_note(self) -> str:
        """Where what the file held is now, for whoever asked for this run."""
        return f"{str(self._path)!r} is of another run; it is kept as {str(self.kept_as)!r}, and begun anew"

    def add(self, item: Item) -> None:
        """Write the file with one more item, in place of one of the same key.

        Raises BenchError when the place can no longer be written, msgspec.ValidationError for an item
        that could not be read back, such as one with a NaN. The file stays as it was.
        """
        msgspec.json.decode(record.encode(item), type=Item)
        self._items[item.key] = item
        self._write()

    def close(self) -> None:
        """Write the file with the time the run ended, and let others write it."""
        with self._lock:
            self.header = replace(self.header, ended_utc=datetime.now(UTC))
            self._write()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()
        self._lock.close()

    def _write(self) -> None:
        rewrite(self._path, self._form(Profile(run=self.header, items=tuple(self._items.values()))))


def load(path: Path) -> tuple[Header, list[Item]]:
    """Read a record. Raises MissingPrerequisite naming the file and what is wrong with it."""
    try:
        profile = record.decode(read(path))
    except OSError as error:
        raise MissingPrerequisite(f"{str(path)!r}: cannot be read: {error.strerror}") from None
    except MissingPrerequisite as error:
        raise MissingPrerequisite(f"{str(path)!r}: {error}") from None
    return profile.run, list(profile.items)


def read(path: Path) -> bytes:
    """The bytes of a regular file. Raises OSError, and MissingPrerequisite for one that is too long."""
    with regular(path).open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise MissingPrerequisite(f"is over {MAX_BYTES >> 20} MiB, which no record is")
    return data


def _earlier(path: Path, place: Path, mode: str, view: View | None) -> Profile | None:
    """The record that is in `place`, None for one in a form that is not read back. Raises UsageError."""
    flag = view.flag if view else FIELD
    try:
        data = read(place)
        if view.is_one(data) if view else only_shown(path, data):
            return None
        earlier = record.decode(data)
    except (OSError, MissingPrerequisite) as error:
        reason = getattr(error, "strerror", None) or str(error).partition(";")[0]
        raise would_be_lost(flag, path, reason) from None
    if view:
        raise would_be_lost(flag, path, "it is a record")
    if earlier.run.mode != mode:
        raise UsageError(
            f"{FIELD}: {str(path)!r} is a record of mode {shown(earlier.run.mode)}, and this is {mode}; "
            "name another"
        )
    return earlier


def _kept(flag: str, path: Path, place: Path) -> Path:
    try:
        return keep(place)
    except OSError as error:
        raise UsageError(
            f"{flag}: {str(path)!r} is there and cannot be copied to another name: {error.strerror}; "
            "name another"
        ) from None
