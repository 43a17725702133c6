"""Storage of fake tensors: blocks of a simulated card, or of the host. None of them has memory.

A tensor of torch's meta device is fake if its storage is known here; any other belongs to a model that is not
loaded. A block of the card is a storage's until the storage dies.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from harness.cards import Card
from harness.registry import PACKAGES
from harness.trace.allocator import Block, NoMemory
from harness.trace.tracker import Alloc, MemoryTracker
from harness.virtual_card import HOST, READ_DEVICE, VirtualCard, is_plain, key_of, plain

if TYPE_CHECKING:
    from harness.trace.regions import Region

CHECKOUT = Path(__file__).parents[2]
OURS = tuple(str(CHECKOUT / package) + os.sep for package in PACKAGES)
BEHIND_THE_SCENES = tuple(
    str(CHECKOUT / "harness" / name) for name in ("trace", "virtual_card.py", "virtual_torch.py")
)
META = torch.device("meta")


class FakeStorage(VirtualCard):
    """`card`, of which `cap_bytes` are left to the allocator (what its context leaves, where not said), and
    those `beside` it, which have one clock.

    `tracker` counts allocations. Raises torch.OutOfMemoryError out of the call that asked for too much.
    """

    wrapped_on = "meta"
    peak_source = "predicted, torch.cuda.max_memory_reserved"

    def __init__(self, card: Card, cap_bytes: int | None = None, beside: Sequence[Self] = ()):
        left_bytes = max(card.memory_bytes - card.context_bytes, 0) if cap_bytes is None else cap_bytes
        super().__init__(left_bytes, beside)
        self.tracker = MemoryTracker(card, self.cap_bytes)
        self.operator = ""  # that is running
        # By the identity of a storage; None in a region, whose memory is taken when all of it is known.
        self.blocks: dict[int, Block | None] = {}
        self.region: Region | None = None  # that is traced
        self._hosted: set[int] = set()  # storages of fake tensors on the host
        self.refused: FakeStorage | None = None  # the last of the cards that was too small
        for other in beside:
            other._hosted = self._hosted
            other.tracker.stage_costs.clock = self.tracker.stage_costs.clock

    def holds(self, tensor: Tensor) -> bool:
        if is_plain(tensor):
            return key_of(tensor) in self.blocks
        return any(key_of(part) in self.blocks for part in plain(tensor))

    def block_of(self, tensor: Tensor) -> Block | None:
        """The allocator's block that `tensor` lies in; None for one that is on the host."""
        return self.blocks.get(key_of(tensor))

    def is_empty(self, tensor: Tensor) -> bool:
        """Whether `tensor` is on the meta device for the engine too: of a model that is not loaded."""
        return READ_DEVICE(tensor) == META and not self.is_fake(tensor)

    def is_fake(self, tensor: Tensor) -> bool:
        """Whether `tensor` stands for one with values, on a card or on the host."""
        return any(key in self._hosted for key in map(key_of, plain(tensor))) or bool(self.card_of(tensor))

    def device_of(self, tensor: Tensor) -> torch.device:
        if card := self.card_of(tensor):
            return card.device
        return HOST if self.is_fake(tensor) else READ_DEVICE(tensor)

    def beneath(self, tensor: Tensor) -> str:
        return "meta" if READ_DEVICE(tensor) == META else "cpu"

    def elsewhere(self, shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
        """A fake tensor on the host."""
        tensor = torch.empty(shape, dtype=dtype, device=META)
        self.host(tensor.untyped_storage())
        return tensor

    def fresh(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the card."""
        tensor = torch.empty(shape, dtype=dtype, device=META)
        self.take(tensor)
        return tensor

    def take(self, tensor: Tensor) -> None:
        for part in plain(tensor):
            if key_of(part) not in self.blocks:
                self._keep(part.untyped_storage())

    def obtain(self, alloc: Alloc) -> Block:
        """Allocate a block of the card, of no storage yet."""
        try:
            return self.tracker.take(alloc)
        except NoMemory as refusal:
            self.head.refused = self
            raise torch.OutOfMemoryError(f"{alloc.operator}: {refusal}") from None

    def hold(self, storage: torch.UntypedStorage, block: Block | None) -> None:
        """Bind `block` to a storage until that is freed."""
        self.blocks[storage._cdata] = block
        weakref.finalize(storage, self._release, storage._cdata).atexit = False

    def host(self, storage: torch.UntypedStorage) -> None:
        """Mark a storage as a fake tensor's on the host until it is freed."""
        if storage._cdata not in self._hosted and storage.device == META:
            self._hosted.add(storage._cdata)
            weakref.finalize(storage, self._hosted.discard, storage._cdata).atexit = False

    def _keep(self, storage: torch.UntypedStorage) -> None:
        alloc = Alloc(storage.nbytes(), self.operator, site())
        if self.region is not None:
            self.region.take(storage, alloc)
            return self.hold(storage, None)
        self.hold(storage, self.obtain(alloc))

    def _release(self, key: int) -> None:
        block = self.blocks.pop(key)
        if block is not None:
            self.tracker.give(block)

    def used_bytes(self) -> int:
        return self.tracker.allocator.reserved_bytes

    def allocated_bytes(self) -> int:
        return self.tracker.allocator.allocated_bytes

    def available_bytes(self) -> int:
        return self.cap_bytes - self.tracker.allocator.reserved_bytes

    def peak_bytes(self) -> int:
        return self.tracker.allocator.peak_reserved_bytes

    def peak_allocated_bytes(self) -> int:
        return self.tracker.allocator.peak_allocated_bytes

    def reset_peak(self) -> None:
        self.tracker.allocator.reset_peak()


def site() -> str:
    """The function of a subject that is running, without a line number, which any edit would move."""
    place, frame = _caller()
    return f"{place} {frame.f_code.co_qualname}" if frame else place


def line() -> str:
    """The line of a subject that is running, and its function."""
    place, frame = _caller()
    return f"{place}:{frame.f_lineno} {frame.f_code.co_qualname}" if frame else place


def _caller() -> tuple[str, FrameType | None]:
    """The innermost frame of a subject and the file it is in; none where torch is called by others."""
    frame = sys._getframe(2)
    while frame:
        if place := _place(frame.f_code.co_filename):
            return place, frame
        frame = frame.f_back
    return "elsewhere", None


@cache
def _place(file: str) -> str | None:
    """A file of ours as sites name it; None for one of a library, or of the tracing itself."""
    if not file.startswith(OURS) or file.startswith(BEHIND_THE_SCENES):
        return None
    place = Path(file).relative_to(CHECKOUT)
    return None if "tracing" in place.parts else place.as_posix()
