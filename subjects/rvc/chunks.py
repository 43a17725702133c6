"""Long inputs in pieces of a network that sees a bounded stretch around each place. No torch import here.

A piece is read with the context that its places see, and that is cut off its result: what is kept is what one
pass over all would give, if the context is as long as the network sees and pieces lie on its grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.errors import UsageError


@dataclass(frozen=True, slots=True)
class Chunk:
    """Read `[first, last)`, keep `[start, end)` of it; all counted from the start of the whole."""

    first: int
    start: int
    end: int
    last: int

    @property
    def kept(self) -> slice:
        """What is kept, counted from what is read."""
        return slice(self.start - self.first, self.end - self.first)


def chunks(length: int, size: int, context: tuple[int, int], grid: int = 1) -> Iterator[Chunk]:
    """Pieces of `size`, the last one of what is left, that cover `length` places in order.

    `context`: places read before and behind each, fewer at the ends of the whole. Raises UsageError for a
    size that is not a positive multiple of `grid`, ValueError for a context or a length that is none.
    """
    if size <= 0 or size % grid:
        raise UsageError(f"chunk: {size} frames; use a positive multiple of {grid}")
    left, right = context
    if left % grid or right % grid or length % grid:
        raise ValueError(f"length {length} and context {context} are to be multiples of {grid}")
    for start in range(0, length, size):
        end = min(start + size, length)
        yield Chunk(max(start - left, 0), start, end, min(end + right, length))


def is_cut(length: int, size: int, context: tuple[int, int], grid: int = 1) -> bool:
    """Whether any piece of `chunks` is read without some of the whole; if not, its result is the whole's."""
    return any(piece.last - piece.first < length for piece in chunks(length, size, context, grid))
