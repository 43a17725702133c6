"""A model of PyTorch's CUDA caching allocator, which needs no card. No torch import here.

A card hands out memory slowly, so PyTorch asks it for large pieces, *segments*, and cuts tensors out of
them. It holds (reserves) at least what its tensors fill (allocate), and that is at least what was asked for
(live). It is a segment that fits on the card or does not, so *reserved* decides what is out of memory:

* Sizes are rounded up to 512 bytes.
* There are two pools. Up to 1 MiB a block is small and its segment has 2 MiB; above, a segment has 20 MiB
  for a block below 10 MiB and else the size of the block, rounded up to 2 MiB.
* The best fit is the smallest free block of the pool that is large enough, of equal ones that in the oldest
  segment, and there the first. Where none fits, a new segment is asked for.
* A block is split if what is left is worth keeping: any rest in the small pool, one above 1 MiB in the large.
* A freed block merges with its free neighbours in the segment, and stays reserved.
* If the card refuses a segment, all segments that are wholly free go back to it, and it is asked once more.
* What is allocated while a step is recorded comes from pools of the recordings alone (`private`), and no
  segment goes back meanwhile. Their segments stay reserved as long as the recordings are there; afterwards
  they go back as others do.

This is the allocator of torch 2.13 to 2.15 with default settings: no expandable segments, no
`max_split_size_mb`, no `garbage_collection_threshold`, no rounding to powers of two; one stream. Earlier
versions choose otherwise among equal blocks. Addresses here only count up,
segment by segment; the driver's play no part in PyTorch either. `tests/harness/trace/test_allocator.py` holds
this model to PyTorch's own, step by step.

    allocator = Allocator(cap_bytes=8 * 2**30)
    block = allocator.malloc(3 * 2**20)  # 3 MiB allocated, 20 MiB reserved
    allocator.free(block)                # nothing allocated, 20 MiB reserved
    allocator.empty_cache()              # nothing reserved
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

MIB = 2**20
ROUND_BYTES = 512
SMALL_BYTES = MIB  # the largest block of the small pool
SMALL_SEGMENT_BYTES = 2 * MIB
SHARED_BYTES = 10 * MIB  # from here on a block has a segment made for it
SHARED_SEGMENT_BYTES = 20 * MIB
SEGMENT_ROUND_BYTES = 2 * MIB
SMALL_REST_BYTES = ROUND_BYTES  # the least that is split off
LARGE_REST_BYTES = MIB + ROUND_BYTES


class NoMemory(Exception):
    """The card refused a segment of `wanted_bytes`, the size in PyTorch's message, with the cache flushed."""

    def __init__(self, wanted_bytes: int, allocated_bytes: int, reserved_bytes: int, cap_bytes: int):
        super().__init__(
            f"out of memory: a segment of {wanted_bytes} bytes does not fit: "
            f"{reserved_bytes} of {cap_bytes} bytes are reserved, {allocated_bytes} of them allocated"
        )
        self.wanted_bytes = wanted_bytes
        self.allocated_bytes = allocated_bytes
        self.reserved_bytes = reserved_bytes
        self.cap_bytes = cap_bytes


@dataclass(slots=True, eq=False)
class Pool:
    """Free blocks as (size, address, block), sorted. A rest of `rest_bytes` or more is split off."""

    rest_bytes: int
    free: list[tuple[int, int, Block]] = field(default_factory=list)


class Pools(NamedTuple):
    """One for small blocks, one for large ones."""

    small: Pool
    large: Pool


@dataclass(slots=True, eq=False)
class Block:
    """A stretch of a segment, with its neighbours there. `live_bytes` is what was asked for, 0 while free."""

    pool: Pool
    address: int
    size_bytes: int
    live_bytes: int = 0
    before: Block | None = None
    after: Block | None = None


class Allocator:
    """The allocator of a card of `cap_bytes`, or of the share that `set_per_process_memory_fraction` leaves.

    `allocated_bytes` and `reserved_bytes` are torch.cuda.memory_allocated and memory_reserved, `live_bytes`
    is `requested_bytes` of torch.cuda.memory_stats, `retries` its `num_alloc_retries`.
    """

    def __init__(self, cap_bytes: int):
        self.cap_bytes = cap_bytes
        self.allocated_bytes = self.reserved_bytes = self.live_bytes = 0
        self.retries = 0
        self._common = self._pools = new_pools()
        self._released: list[Pools] = []  # of recordings that are gone
        self._end = 0  # the address behind the last segment
        self.reset_peak()

    def reset_peak(self) -> None:
        self.peak_allocated_bytes = self.allocated_bytes
        self.peak_reserved_bytes = self.reserved_bytes
        self.peak_live_bytes = self.live_bytes

    def malloc(self, size_bytes: int) -> Block:
        """A block of at least `size_bytes`, or of none if that is 0. Raises NoMemory, the cache flushed."""
        if size_bytes == 0:
            return Block(self._pools.small, 0, 0)
        size = round_up(size_bytes, ROUND_BYTES)
        pool = self._pools.small if size <= SMALL_BYTES else self._pools.large
        block = best_fit(pool, size) or self._new_segment(pool, size)
        if block.size_bytes - size >= pool.rest_bytes:
            split(block, size)
        block.live_bytes = size_bytes
        self.live_bytes += size_bytes
        self.allocated_bytes += block.size_bytes
        self.peak_live_bytes = max(self.peak_live_bytes, self.live_bytes)
        self.peak_allocated_bytes = max(self.peak_allocated_bytes, self.allocated_bytes)
        return block

    def free(self, block: Block) -> None:
        """Give `block` back. Raises ValueError if it was given back before."""
        if block.size_bytes == 0:
            return
        if block.live_bytes == 0:
            raise ValueError(f"block at {block.address}: freed twice")
        self.live_bytes -= block.live_bytes
        self.allocated_bytes -= block.size_bytes
        block.live_bytes = 0
        merge(block)
        insort(block.pool.free, (block.size_bytes, block.address, block))

    def empty_cache(self) -> None:
        """Give the segments that are wholly free back to the card."""
        for pool in (pool for pools in (self._common, *self._released) for pool in pools):
            used = [entry for entry in pool.free if entry[2].before or entry[2].after]
            self.reserved_bytes -= sum(size for size, _, _ in pool.free) - sum(size for size, _, _ in used)
            pool.free = used

    @contextmanager
    def private(self, pools: Pools) -> Iterator[None]:
        """Inside, blocks come from `pools` (`new_pools`), and the card is asked for a segment only once."""
        self._pools = pools
        try:
            yield
        finally:
            self._pools = self._common

    def release(self, pools: Pools) -> None:
        """Nothing needs private `pools` any more: `empty_cache` gives back their segments, too."""
        self._released.append(pools)

    def _new_segment(self, pool: Pool, size: int) -> Block:
        wanted = segment_bytes(size)
        if self.reserved_bytes + wanted > self.cap_bytes:
            if self._pools is self._common:
                self.retries += 1
                self.empty_cache()
            if self.reserved_bytes + wanted > self.cap_bytes:
                raise NoMemory(wanted, self.allocated_bytes, self.reserved_bytes, self.cap_bytes)
        block = Block(pool, self._end, wanted)
        self._end += wanted
        self.reserved_bytes += wanted
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)
        return block


def new_pools() -> Pools:
    return Pools(Pool(SMALL_REST_BYTES), Pool(LARGE_REST_BYTES))


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def segment_bytes(size: int) -> int:
    """What the card is asked for where no free block holds `size` bytes, already rounded."""
    if size <= SMALL_BYTES:
        return SMALL_SEGMENT_BYTES
    if size < SHARED_BYTES:
        return SHARED_SEGMENT_BYTES
    return round_up(size, SEGMENT_ROUND_BYTES)


def best_fit(pool: Pool, size: int) -> Block | None:
    """The smallest free block of at least `size` bytes, taken out of its pool."""
    place = bisect_left(pool.free, (size,))
    return pool.free.pop(place)[2] if place < len(pool.free) else None


def split(block: Block, size: int) -> None:
    """Cut `block` down to `size` bytes; the rest is a free block behind it."""
    rest = Block(block.pool, block.address + size, block.size_bytes - size, before=block, after=block.after)
    if block.after:
        block.after.before = rest
    block.after = rest
    block.size_bytes = size
    insort(block.pool.free, (rest.size_bytes, rest.address, rest))


def merge(block: Block) -> None:
    """Let `block` swallow its free neighbours, which leave their pool."""
    before, after = block.before, block.after
    if before and before.live_bytes == 0:
        remove(before)
        block.address = before.address
        block.size_bytes += before.size_bytes
        block.before = before.before
        if block.before:
            block.before.after = block
    if after and after.live_bytes == 0:
        remove(after)
        block.size_bytes += after.size_bytes
        block.after = after.after
        if block.after:
            block.after.before = block


def remove(block: Block) -> None:
    free = block.pool.free
    del free[bisect_left(free, (block.size_bytes, block.address))]
