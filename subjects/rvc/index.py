"""The index of a voice: features of its speaker, one a row, with which those of a recording are mixed.

    the cell whose centre is nearest to a frame ─▶ its 8 rows that are nearest ─▶ their mean, by 1/d²

A file that faiss wrote has cells, as training makes them (`added_*.index`); one of numpy is a single cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import MissingPrerequisite, UsageError
from harness.files import regular
from subjects.rvc import faiss_file
from subjects.rvc.conversion import Samples

MAGIC = b"\x93NUMPY"  # how a file begins that numpy.save has written
MOST_BYTES = 2**32
NEIGHBOURS = 8  # of a frame
MOST_DISTANCES = 2**24  # in memory at once


@dataclass(frozen=True, slots=True)
class Index:
    """`centres [C, D]`, and the rows `[n, D]` of each cell, none of which is empty."""

    centres: Samples
    cells: tuple[Samples, ...]

    def nearest(self, features: Samples) -> Samples:
        """For each frame of `features [H, D]` the mean of the rows that are nearest to it."""
        means, lengths = np.empty_like(features), _lengths(self.centres)
        parts = np.array_split(features, _pieces(len(features), len(self.centres)))
        closest = np.concatenate([_squared(part, self.centres, lengths).argmin(axis=1) for part in parts])
        for number in np.unique(closest):
            rows, here = self.cells[number], np.flatnonzero(closest == number)
            lengths = _lengths(rows)
            for frames in np.array_split(here, _pieces(len(here), len(rows))):
                means[frames] = _mean(features[frames], rows, lengths)
        return means


def _pieces(frames: int, rows: int) -> int:
    """How many parts frames are taken in, so that distances to all rows are few at once."""
    return max(math.ceil(frames * rows / MOST_DISTANCES), 1)


def _mean(features: Samples, rows: Samples, lengths: Samples) -> Samples:
    """Of the 8 `rows [n, D]` nearest to each frame, or of all where they are fewer, weighted by 1/d², d the
    squared distance; a row that is met exactly counts alone."""
    count = min(NEIGHBOURS, len(rows))
    places = np.argpartition(_squared(features, rows, lengths), count - 1, axis=1)[:, :count]
    near = rows[places]
    distances = np.square(near - features[:, None], dtype=np.float64).sum(axis=2)  # without cancellation
    least = distances.min(axis=1, keepdims=True)
    # 1/d² over the greatest of them, (least/d)², which is in range whatever the distances are.
    ratios = np.divide(least, distances, out=np.ones_like(distances), where=distances > 0)
    shares = np.square(ratios)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.einsum("hk,hkd->hd", shares, near)


def _squared(features: Samples, rows: Samples, lengths: Samples) -> Samples:
    """Squared distances `[H, n]` to rows of squared `lengths`, but for |frame|², the same for all rows."""
    return lengths - 2 * (features @ rows.T)


def _lengths(rows: Samples) -> Samples:
    """Squared, of each row."""
    return np.einsum("nd,nd->n", rows, rows)


def open_index(path: str, width: int) -> Index:
    """The features of `width` in the file at `path`, not read yet; a header's claim is no memory.

    Raises MissingPrerequisite for a file that cannot be read, UsageError for one that holds something else.
    """
    try:
        size = regular(Path(path)).stat().st_size
        with Path(path).open("rb") as file:
            head = file.read(len(MAGIC))
        if size > MOST_BYTES:
            raise UsageError(f"index: {path!r} has more than {MOST_BYTES:,} bytes; wrong file?")
        if head.startswith(faiss_file.KIND):
            return _with_rows(path, faiss_file.opened(Path(path), width))
        rows = _array(path) if head == MAGIC else None
    except OSError as error:
        raise MissingPrerequisite(f"index: {path!r} cannot be read: {error.strerror or error}") from None
    except faiss_file.NotRead as error:
        raise UsageError(f"index: {path!r} {error}") from None
    if rows is None:
        raise UsageError(
            f"index: {path!r} is no array of numbers, nor an index of faiss (IVF, Flat); use the voice's "
            "added_*.index, or save features by numpy.save"
        )
    if rows.dtype.kind != "f" or rows.shape[1:] != (width,):
        raise UsageError(f"index: {path!r} is no array of real numbers of {width} columns, as features are")
    return Index(np.zeros((1, width), np.float32), (rows,))


def _array(path: str) -> Samples | None:
    """The array in a file of numpy's, or None where there is none. Raises OSError."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception:  # a reader of any bytes at all; numpy names no kind
        return None


def _with_rows(path: str, index: faiss_file.IVF) -> Index:
    """The cells that have rows: in one without, nothing is near. Raises UsageError where all are without."""
    numbers = [number for number, rows in enumerate(index.cells) if len(rows)]
    if not numbers:
        raise UsageError(f"index: {path!r} has no rows yet; use the file added_*.index beside it")
    return Index(index.centres[numbers], tuple(index.cells[number] for number in numbers))


def read_index(path: str, width: int) -> Index:
    """The same in memory, fp32. Raises as `open_index`, and UsageError for values that have no distances."""
    index = open_index(path, width)
    with np.errstate(over="ignore"):  # of values too large for fp32
        centres, *cells = (np.array(rows, dtype=np.float32) for rows in (index.centres, *index.cells))
    if not all(len(rows) and np.isfinite(_lengths(rows)).all() for rows in (centres, *cells)):
        raise UsageError(f"index: {path!r} has no rows, or values that are not numbers or too large")
    return Index(centres, tuple(cells))
