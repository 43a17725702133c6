"""An index as faiss writes it, of the one kind that the published training makes: IVF with flat lists, L2.

    "IwFl"  head, cells u64, probes u64      an inverted file: each row is in the cell of the nearest centre
    "IxF2"  head, values u64, f32...         the centres
    u8, count u64, i64...                    where each row is, if that is kept; nothing here asks for it
    "ilar"  cells u64, bytes of a row u64
    "full"  count u64, rows of each cell u64...      or "sprs": a cell u64 and its rows u64, of those with any
    of each cell its rows f32..., their numbers i64...

    head: width i32, rows i64, 16 bytes, trained u8, metric i32 (1 is L2)

Little-endian, without gaps, as `faiss/impl/index_write.cpp` has it. A file may come from anybody: no count in
it is believed before there are so many bytes, and no row is read until it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KIND, FLAT, LISTS, ALL, SOME = b"IwFl", b"IxF2", b"ilar", b"full", b"sprs"
L2 = 1  # of the metrics
HASHED = 2  # of the ways to keep where rows are; not one that training chooses


class NotRead(ValueError):
    """Why an index is not read, in words."""


class IVF(NamedTuple):
    """`centres [C, D]` and the rows `[n, D]` of each cell, fp32, in the file still."""

    centres: NDArray[np.float32]
    cells: tuple[NDArray[np.float32], ...]


def opened(path: Path, width: int) -> IVF:
    """The index of rows of `width` at `path`, a regular file that begins with `KIND`.

    Raises OSError, and NotRead for one that is damaged or of another kind.
    """
    fields = _Fields(np.asarray(np.memmap(path, np.uint8, mode="r")))
    fields.expect(KIND)
    count = fields.head(width)
    cells, probes = fields.one("<u8"), fields.one("<u8")
    if probes != 1:
        raise NotRead(f"has {probes} cells looked into for a frame; save it with nprobe 1, as is published")
    fields.expect(FLAT)
    if fields.head(width) != cells or fields.one("<u8") != cells * width:
        raise NotRead("is damaged: it has not one centre for each cell")
    centres = fields.rows(cells, width)
    if fields.one("u1") == HASHED:
        raise NotRead("keeps where its rows are by a hash table, which is not supported")
    fields.take("<i8", fields.one("<u8"))
    fields.expect(LISTS)
    if fields.one("<u8") != cells or fields.one("<u8") != centres.itemsize * width:
        raise NotRead("is damaged: its rows are not as wide as its centres")
    sizes = fields.sizes(cells)
    if sum(sizes) != count:
        raise NotRead(f"is damaged: it has {sum(sizes):,} rows of the {count:,} it is said to have")
    rows = []
    for size in sizes:
        rows.append(fields.rows(size, width))
        fields.take("<i8", size)
    return IVF(centres, tuple(rows))


class _Fields:
    """The fields of a file in their order. Each method raises NotRead where the file ends before."""

    def __init__(self, data: NDArray[np.uint8]):
        self._data = data
        self._at = 0

    def take(self, kind: str, count: int) -> NDArray[Any]:
        """So many numbers, in the file still."""
        dtype = np.dtype(kind)
        end = self._at + count * dtype.itemsize
        if end > len(self._data):
            raise NotRead("ends before what it is said to have; is the download complete?")
        values = self._data[self._at : end].view(dtype)
        self._at = end
        return values

    def one(self, kind: str) -> int:
        return int(self.take(kind, 1)[0])

    def rows(self, count: int, width: int) -> NDArray[np.float32]:
        """`[count, width]`."""
        return self.take("<f4", count * width).reshape(count, width)

    def expect(self, code: bytes) -> None:
        """The four letters of what comes next."""
        if (there := self.take("u1", 4).tobytes()) != code:
            raise NotRead(f"is of another kind: {there!r} where {code!r} is read; train it as IVF, Flat")

    def head(self, width: int) -> int:
        """How many rows of `width` there are."""
        if (there := self.one("<i4")) != width:
            raise NotRead(f"has features of {there}; those of this voice have {width}")
        count = self.one("<i8")
        self.take("u1", 17)
        if (metric := self.one("<i4")) != L2:
            raise NotRead(f"is of another kind: metric {metric} where {L2} is read; train it with L2")
        return count

    def sizes(self, cells: int) -> list[int]:
        """How many rows each cell has."""
        code = self.take("u1", 4).tobytes()
        count = self.one("<u8")
        damaged = NotRead("is damaged: it has not one list of rows for each cell")
        if count > 2 * cells:  # numbers of Python take more memory than they do in the file
            raise damaged
        listed = self.take("<u8", count).tolist()
        if code == ALL and count == cells:
            return listed
        if code != SOME or count % 2 or any(cell >= cells for cell in listed[::2]):
            raise damaged
        some = dict(zip(listed[::2], listed[1::2], strict=True))
        return [some.get(cell, 0) for cell in range(cells)]
