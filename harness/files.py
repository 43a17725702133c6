"""Atomic file writes: written beside their place, synced to the disk, then given their name.

Reads that cannot hang: of regular files only (`regular`).

Two runs may write into one folder, and one name, at once: each has part files of its own, which are locked
while they are written, so that a run clears away what a killed one has left and nothing else.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from zlib import crc32

from harness import interrupts
from harness.errors import BenchError, MissingPrerequisite, UsageError

HEAD_BYTES = 4096  # of a file, by which it is told what it is
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a file system says that has no room
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # what a file system says that has no hard links


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a new file to write, in the folder of `path`; it becomes `path` when the block ends well.

    Both the file and its folder are on the disk then, and a file that was there has kept its permissions.
    When the block, or the disk, fails, `path` is as before and nothing is left beside it. Raises OSError.
    """
    with _writing(path) as part:
        yield part
        _sync(part, os.O_RDWR)
        with suppress(FileNotFoundError):
            shutil.copymode(path, part)
        part.replace(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write `path` completely or not at all. Raises OSError."""
    with replacing(path) as part:
        part.write_bytes(data)


def rewrite(path: Path, data: bytes) -> None:
    """As `write_whole`, of a file that a run writes again and again. Raises BenchError."""
    try:
        write_whole(path, data)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}; it is as before"
        raise BenchError(f"{str(path)!r}: {reason}") from None


def unwritten(what: str, error: OSError) -> BenchError:
    """Why `what` is not written: of a full disk the run failed, of any other place a prerequisite lacks."""
    kind = BenchError if error.errno in FULL else MissingPrerequisite
    return kind(f"{what}: {error.strerror or error}")


def add(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file that replaces none, completely or not at all; returns where it is.

    It is `path`, or where that is taken the first that is free of `stem-2`, `stem-3` and so on, whoever else
    adds to the folder meanwhile. `write` is called with the path of a new file to write. What a run that was
    killed has left of it is removed. Raises OSError.
    """
    _clear(path)
    with _writing(path) as part:
        write(part)
        _sync(part, os.O_RDWR)
        number = 1
        place = path
        while not _named(part, place):
            number += 1
            place = path.with_stem(f"{path.stem}-{number}")
    return place


def keep(path: Path) -> Path:
    """Copy what `path` holds to a name of its own beside it, before something else replaces it; returns that.

    Raises OSError.
    """
    return add(path.with_stem(f"{path.stem}-kept"), lambda part: shutil.copyfile(path, part))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock `path`, an empty file, until the block ends; the kernel lets go of it with the process.

    Raises BlockingIOError while another holds it, OSError where the file system has no locks.
    """
    descriptor = _locked(path)
    interrupts.temporary.add(path)
    try:
        yield
    finally:
        interrupts.temporary.discard(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def alone(name: str, path: Path, place: Path) -> Iterator[None]:
    """Inside, no other run writes to `place`, which is told of as `path`. Where the file system has no locks
    nobody knows. Raises UsageError, about `name`, while another run is inside.
    """
    with ExitStack() as lock:
        try:
            lock.enter_context(held(lock_of(place)))
        except BlockingIOError:
            raise UsageError(
                f"{name}: another run is writing {str(path)!r}; wait for it, or name another"
            ) from None
        except OSError:
            pass
        yield


def lock_of(path: Path) -> Path:
    """The lock that is held while a run writes to `path`."""
    return _beside(path, "lock")


def writable(name: str, path: Path, ours: Callable[[bytes], bool] = lambda head: True) -> Path:
    """`path` with links followed, once a file beside it could be made. Raises UsageError, about `name`.

    `ours`: whether a file that begins like this may be replaced, as what is written here would begin; any
    other is refused. What a run that was killed while it wrote this file has left beside it is removed.
    """
    place = Path(os.path.realpath(path))
    try:
        if place.exists() and not place.is_file():
            raise UsageError(f"{name}: {str(path)!r} is there and is no file; name another")
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(f"{name}: {str(path)!r} is read-only; name another")
        if place.exists() and (head := _head(place)) and not ours(head):
            raise would_be_lost(name, path, "it is none of ours")
        probe = _part(place)
        probe.touch(exist_ok=False)
        probe.unlink(missing_ok=True)
        _clear(place)
    except OSError as error:
        raise UsageError(
            f"{name}: {str(path)!r} cannot be written: {error.strerror}; "
            "name a file in a folder that is there and can be written"
        ) from None
    return place


def apart(places: Mapping[str, Path | None]) -> None:
    """Raise UsageError where two flags, the keys, name one file to be written."""
    owners: dict[str, str] = {}
    for flag, path in places.items():
        if path is not None and (other := owners.setdefault(os.path.realpath(path), flag)) != flag:
            raise UsageError(f"{flag}: {str(path)!r} is the file of {other} as well; name another")


def folder_for_audio(name: str, folder: Path) -> Path:
    """`folder`, there and writable, before minutes are spent on what belongs there.

    Raises MissingPrerequisite, about `name`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except FileExistsError:
        raise MissingPrerequisite(
            f"{name}: {str(folder)!r} is there and is no folder; name another"
        ) from None
    except OSError as error:
        raise MissingPrerequisite(f"{name}: {str(folder)!r}: cannot write audio: {error.strerror}") from None


def would_be_lost(name: str, path: Path, reason: str) -> UsageError:
    """The refusal to replace a file."""
    return UsageError(
        f"{name}: {str(path)!r} is there and would be lost: {reason}; name another, or move it away"
    )


def regular(path: Path) -> Path:
    """`path`, which names a regular file: opening a pipe waits, and reading a device need not end.

    Raises FileNotFoundError where there is none, and OSError; `strerror` says what there is instead.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # a NUL, a lone surrogate
        raise FileNotFoundError(errno.ENOENT, "no file can have this name", path) from None
    if stat.S_ISREG(mode):
        return path
    kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise FileNotFoundError(errno.ENOENT, f"it is {kind}", path)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """A part file of `path`, which is locked, and gone when the block ends, however it does."""
    part = _part(path)
    with ExitStack() as stack:
        stack.callback(part.unlink, missing_ok=True)
        with suppress(OSError):  # no locks here; what is wrong with the place is told where it is written
            stack.enter_context(held(part))
        try:
            yield part
        except OSError as error:  # of a write it names no file, of the rest one that nobody knows
            if error.filename in (None, str(part)):
                error.filename = str(path)
            raise
    with suppress(OSError):  # not every system opens folders
        _sync(path.parent, os.O_RDONLY)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _clear(path: Path) -> None:
    """Remove part files of `path` that nobody is writing."""
    for part in path.parent.glob(_part(path, "*").name):
        with suppress(OSError), held(part):  # which removes it
            pass


def _named(part: Path, place: Path) -> bool:
    """Whether `part` has got the name `place`; not where that is another file's."""
    try:
        os.link(part, place)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if place.exists():
            return False
        part.replace(place)
    return True


def _part(path: Path, token: str = "") -> Path:
    """A name beside `path` that is nobody else's."""
    return _beside(path, f"{token or secrets.token_hex(8)}.part")


def _beside(path: Path, ending: str) -> Path:
    """A hidden name of `path`; short, as a name as long as one can be has one, too."""
    return path.with_name(f".{crc32(os.fsencode(path.name)):08x}-{ending}")


def _locked(path: Path) -> int:
    """The descriptor of a file that is locked, and is still the one of that name."""
    try:
        import fcntl
    except ImportError:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path) from None
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
