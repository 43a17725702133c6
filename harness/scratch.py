"""Temporary folders that a kill leaves behind for no longer than until the next one is made."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "bench-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder below TMPDIR, removed with all it holds when the block ends. Raises OSError.

    Its lock goes with this process, however that ends: one of a process that was killed is removed here.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        _remove_abandoned(folder)
    folder, handle = _new()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def _new() -> tuple[Path, int | None]:
    """A new folder and the handle that holds its lock; None where the file system has no locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            handle = _locked(folder)
        except FileNotFoundError:  # taken for an abandoned one before it was locked
            continue
        except OSError:
            return folder, None
        if handle is not None:
            if folder.exists():
                return folder, handle
            os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    with suppress(OSError):
        if folder.stat().st_uid == os.getuid() and (handle := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _locked(folder: Path) -> int | None:
    """A handle that holds the lock of `folder`; None where another process does. Raises OSError.

    Not by `harness.files`: benchmarks load this file by itself, beside any version of our packages.
    """
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle
