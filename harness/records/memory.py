"""Memory of a process, by the host, by torch's allocator and by the driver of its card, in bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import msgspec

Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # what a machine can count


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMemory:
    """A process by the accounts of its host and of its card's driver. None: not known, or no such card.

    `rss`: resident, its peak since the boundary before; `swap`: swapped out. `driver`: what the driver counts
    of the process; its peak has what torch's allocator gave back since its own. `context`: what of it is not
    the allocator's. `spilled`: what the allocator holds and is not on the card, but in the host's memory.
    """

    rss_bytes: Size
    rss_peak_bytes: Size
    swap_bytes: Size | None = None
    driver_bytes: Size | None = None
    driver_peak_bytes: Size | None = None
    context_bytes: Size | None = None
    spilled_bytes: Size | None = None

    def most(self, other: ProcessMemory) -> ProcessMemory:
        """The larger of each figure."""
        theirs = asdict(other)
        pairs = {name: (size, theirs[name]) for name, size in asdict(self).items()}
        most: dict[str, Any] = {
            name: max((size for size in pair if size is not None), default=None)
            for name, pair in pairs.items()
        }
        return ProcessMemory(**most)


class Boundary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory where a stage has ended, in bytes; peaks are those since the boundary before. None: not known.

    `allocated`, `reserved`: of torch's allocator on a card. `weights`: of those that are on the device. The
    others are those of `ProcessMemory`.
    """

    stage: str
    rss_bytes: Size
    rss_peak_bytes: Size
    swap_bytes: Size | None = None
    allocated_bytes: Size | None = None
    allocated_peak_bytes: Size | None = None
    reserved_bytes: Size | None = None
    driver_bytes: Size | None = None
    driver_peak_bytes: Size | None = None
    context_bytes: Size | None = None
    spilled_bytes: Size | None = None
    weights_bytes: Size


class MemoryByStage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Memory in the order stages end, in a run of its own. `rss_source`: where peaks of the process come
    from, and whether they could be reset. `error`: what cannot be so, empty when nothing is wrong."""

    boundaries: tuple[Boundary, ...]
    rss_source: str
    error: str = ""

    def most(self, figure: str) -> int | None:
        """The largest of all boundaries, None where none of them knows it."""
        sizes: list[int | None] = [getattr(one, figure) for one in self.boundaries]
        return max((size for size in sizes if size is not None), default=None)
