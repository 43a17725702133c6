"""Files that are whole or not there: written beside their place, synced to the disk, then renamed into it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a new file to write, in the folder of `path`; it becomes `path` when the block ends well.

    Both the file and its folder are on the disk then, and a file that was there has kept its permissions.
    When the block, or the disk, fails, `path` is as before and nothing is left beside it. Raises OSError.
    """
    part = _part(path)
    try:
        yield part
        _sync(part, os.O_RDWR)
        with suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # not every system opens folders
        _sync(path.parent, os.O_RDONLY)


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` completely or not at all. Raises OSError."""
    with replacing(path) as part:
        part.write_bytes(data)


def writable(name: str, path: Path) -> Path:
    """`path` with links followed, once a file beside it could be made. Raises UsageError, about `name`."""
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            raise UsageError(f"{name}: {str(path)!r} is there and is no file; name another")
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(f"{name}: {str(path)!r} is read-only; name another")
        part = _part(place)
        part.touch(exist_ok=False)
        part.unlink()
    except OSError as error:
        raise UsageError(
            f"{name}: {str(path)!r} cannot be written: {error.strerror}; "
            "name a file in a folder that is there and can be written"
        ) from None
    return place


def _part(path: Path) -> Path:
    """A name beside `path` that is nobody else's, and no longer than one can be."""
    return path.with_name(f".{secrets.token_hex(8)}.part")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
