"""Files of a checkpoint folder, as anybody may have written them: opened, bounded, and JSON as it stands.

Everything that is read from a checkpoint is read through here. No torch import.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from harness.checks import shown
from harness.errors import CheckpointError
from harness.files import regular
from harness.reading import decode

MAX_CONFIG_BYTES = 2**20  # published: 2,407
MAX_DIGITS = 100  # of an integer; no field's range has as many


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The file at `path`, links followed. CheckpointError where it is none, or cannot be read."""
    try:
        with regular(path).open("rb") as file:
            yield file
    except OSError as error:
        if error.strerror == os.strerror(errno.ENOENT):
            raise CheckpointError(f"{path}: no such file; is the download complete?") from None
        raise CheckpointError(f"{path}: unreadable ({error.strerror}); download it again") from None


def read_whole(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file. Raises CheckpointError where there are too many."""
    with opened(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise CheckpointError(f"{path}: has more than the {most_bytes:,} bytes it may have; wrong file?")
    return data


def read_json(path: Path, most_bytes: int = MAX_CONFIG_BYTES) -> dict[str, Any]:
    """A JSON object from `path`; CheckpointError when it is missing or is not one."""
    return parse_json(read_whole(path, most_bytes), str(path))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object `data`, in which no key is twice. Raises CheckpointError, about `where`."""
    try:
        value = json.loads(decode(data), object_pairs_hook=_object, parse_int=_integer)
    except RecursionError:
        raise CheckpointError(f"{where}: not JSON that can be read: it is nested too deep") from None
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: holds a {type(value).__name__}, expected an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {shown(twice)} is there twice")
    return values


def _integer(digits: str) -> int:
    """The integer, or the beginning of one that is too long for any field: Python refuses those of 4,301."""
    return int(digits[:MAX_DIGITS])
