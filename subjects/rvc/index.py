"""The index of a voice: features of its speaker, one a row, with which those of a recording are mixed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.errors import MissingPrerequisite, UsageError
from harness.files import regular
from subjects.rvc.conversion import Samples

MAGIC = b"\x93NUMPY"  # how a file begins that numpy.save has written
MOST_BYTES = 2**32


def open_index(path: str, width: int) -> Samples:
    """The features `[n, width]` in the `.npy` file at `path`, not read yet; a header's claim is no memory.

    Raises MissingPrerequisite for a file that cannot be read, UsageError for one that holds something else.
    """
    try:
        size = regular(Path(path)).stat().st_size
        with Path(path).open("rb") as file:
            is_one = file.read(len(MAGIC)) == MAGIC
        index = np.load(path, mmap_mode="r", allow_pickle=False) if is_one else None
    except OSError as error:
        raise MissingPrerequisite(f"index: {path!r} cannot be read: {error}") from None
    except Exception:  # a reader of any bytes at all; numpy names no kind
        size, index = 0, None
    if index is None:
        raise UsageError(f"index: {path!r} is no array of numbers; save the features by numpy.save")
    if size > MOST_BYTES:
        raise UsageError(f"index: {path!r} has more than {MOST_BYTES:,} bytes; wrong file?")
    if index.dtype.kind != "f" or index.shape[1:] != (width,):
        raise UsageError(f"index: {path!r} is no array of real numbers of {width} columns, as features are")
    return index


def read_index(path: str, width: int) -> Samples:
    """The same in memory, fp32. Raises as `open_index`, and UsageError for values that have no distances."""
    with np.errstate(over="ignore"):  # distances are sums of squares
        rows = np.array(open_index(path, width), dtype=np.float32)
        if not len(rows) or not np.isfinite(np.square(rows).sum(axis=1)).all():
            raise UsageError(f"index: {path!r} has no rows, or values that are not numbers or too large")
    return rows
