"""Atomic file writes: written beside their place, synced to the disk, then renamed into it.

Reads that cannot hang: of regular files only (`regular`).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zlib import crc32

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
    """`path` with links followed, once a file beside it could be made. Raises UsageError, about `name`.

    What a run that was killed while it wrote this file has left beside it is removed.
    """
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            raise UsageError(f"{name}: {str(path)!r} is there and is no file; name another")
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(f"{name}: {str(path)!r} is read-only; name another")
        _part(place).touch(exist_ok=False)
        for part in place.parent.glob(_part(place, "*").name):
            part.unlink()
    except OSError as error:
        raise UsageError(
            f"{name}: {str(path)!r} cannot be written: {error.strerror}; "
            "name a file in a folder that is there and can be written"
        ) from None
    return place


def regular(path: Path) -> Path:
    """`path`, which names a regular file: opening a pipe waits, and reading a device need not end.

    Raises OSError, whose `strerror` says what is wrong; FileNotFoundError also for what can be no name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL, a lone surrogate
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, no regular file", path)
    return path


def _part(path: Path, token: str = "") -> Path:
    """A name beside `path` that is nobody else's; short, as a name as long as one can be has one, too."""
    return path.with_name(f".{crc32(os.fsencode(path.name)):08x}-{token or secrets.token_hex(8)}.part")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
