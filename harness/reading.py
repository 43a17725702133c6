"""Text that others wrote: of bounded length, decoded by the byte-order mark it may begin with.

Editors and shells of Windows put such a mark before UTF-8, and write UTF-16 with one. It belongs to no text.
"""

from __future__ import annotations

import codecs
import os
import stat
from pathlib import Path

from harness.errors import MissingPrerequisite, UsageError

MAX_CHARS = 2**20
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes) -> str:
    """`data` as text: UTF-16 with a byte-order mark, else UTF-8. Raises UnicodeDecodeError."""
    return data.decode("utf-16" if data.startswith(UTF16_MARKS) else "utf-8-sig")


def plain_newlines(text: str) -> str:
    """`text` with the newlines of Windows and of old Macs as everybody else's."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path) -> str:
    """The text of a file with plain newlines, at most a million characters: a device that never ends is none.

    A pipe is read to its end, as a shell makes one of `<(...)`, where there is somebody who writes to it.
    Raises MissingPrerequisite when it cannot be read, UsageError when it is longer.
    """
    most_bytes = 4 * MAX_CHARS  # that many characters can have
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            data = file.read(most_bytes + 1)
            if not data and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                raise MissingPrerequisite("cannot be read: it is a pipe, and nothing was written to it")
        text = decode(data) if len(data) <= most_bytes else None
    except OSError as error:
        raise MissingPrerequisite(f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # bytes that are no text, a path that no file can have
        raise MissingPrerequisite(f"cannot be read as text: {error}") from None
    if text is None or len(text) > MAX_CHARS:
        raise UsageError(f"over {MAX_CHARS:,} characters are too many; use a smaller file")
    return plain_newlines(text)


def _not_waiting(path: str, flags: int) -> int:
    """Open a file for reading; a pipe, too, before anybody writes to it."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # which Windows has none of
    if os.name != "nt":
        os.set_blocking(descriptor, True)
    return descriptor
