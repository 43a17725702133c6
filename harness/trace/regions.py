"""Compiled regions of a fake card: a call of what `torch.compile` compiles runs its operators' fused kernels.

The call is traced as it is in eager PyTorch, but for memory, which no operator takes. What it came to is
grouped into kernels (`fusion`), whose buffers are then taken and freed in their order: each from the kernel
that writes it to the last one that needs it. Compiling itself is work of the host, and costs nothing here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.trace import kernels
from harness.trace.allocator import Block
from harness.trace.fusion import Launch, launches
from harness.trace.inlining import LIBRARY, POINTWISE, REDUCTION, Operator, View
from harness.trace.replay import Event, Free, compiled_runs, patched
from harness.trace.stage_costs import Work
from harness.trace.tracker import Alloc

if TYPE_CHECKING:
    from harness.trace.fake_card import FakeCard

aten = torch.ops.aten
# Beside the operators that torch has marked as pointwise, or as reductions.
MOVES = {
    aten.cat,
    aten.constant_pad_nd,
    aten.copy_,
    aten._to_copy,
    aten.repeat,
    aten.flip,
    aten.roll,
    aten.tril,
}
FILLS = {aten.fill_, aten.zero_, aten.full, aten.zeros, aten.ones, aten.arange, aten.scalar_tensor}
FILLS |= {aten.full_like, aten.zeros_like, aten.ones_like, aten.new_full, aten.new_zeros, aten.new_ones}
LOOPS = MOVES | FILLS | kernels.PICKS | kernels.PUTS | {aten.index_copy_}
SOFTMAX = {aten._softmax, aten._log_softmax}  # of rows along the axis that is their second argument
NORMS = {aten._fused_rms_norm, aten.native_layer_norm, aten.var_mean, aten.std_mean}


class Region:
    """The operators of one call. `made`: the buffers of its own, and what asked for each."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        self.made: dict[int, Alloc] = {}
        self._sizes: dict[int, int] = {}
        self._numbers: dict[int, int] = {}  # of buffers, by the identity of a storage

    def take(self, storage: torch.UntypedStorage, alloc: Alloc) -> None:
        """A new buffer."""
        number = self._numbers[storage._cdata] = len(self._sizes)
        self._sizes[number] = alloc.size
        self.made[number] = alloc

    def add(
        self,
        func: Any,
        args: tuple[Any, ...],
        inputs: Sequence[Tensor],
        results: Sequence[Tensor],
        work: Work,
        workspace_bytes: int,
    ) -> None:
        """Note an operator of ATen, from the tensors `inputs` on the card to `results`."""
        packet = func._overloadpacket
        reads, written = list(inputs), None
        if packet in kernels.PUTS:
            written = work.written_bytes
        if packet in kernels.PUTS or packet in kernels.OVERWRITES:
            reads = reads[1:]
        picked = work.written_bytes if packet in kernels.PICKS else None
        views = [self._view(tensor, None if place else picked) for place, tensor in enumerate(reads)]
        points, rows = _space(func, args, reads, results)
        writes = tuple(self._view(tensor, written) for tensor in results)
        kind = LIBRARY if not points else REDUCTION if rows else POINTWISE
        self.operators.append(Operator(kind, tuple(views), writes, points, rows, work, workspace_bytes))

    def library(self, work: Work, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> None:
        """Note a kernel that is no operator of ATen."""
        reads, writes = (tuple(map(self._view, some)) for some in (inputs, results))
        self.operators.append(Operator(LIBRARY, reads, writes, 0, 0, work))

    def alive(self, blocks: Mapping[int, Block | None]) -> dict[int, int]:
        """Identities of the storages of its own that are still there, by buffer. An identity is given out
        again: only the buffers have an order that does not depend on the heap."""
        numbers = sorted((number, key) for key, number in self._numbers.items() if key in blocks)
        return {number: key for number, key in numbers if number in self.made}

    def launches(self, results: Collection[int]) -> list[Launch]:
        """The kernels that it comes to; `results`: its own buffers that it leaves behind."""
        return launches(self.operators, self._sizes, self._sizes.keys() - self.made.keys(), results)

    def _view(self, tensor: Tensor, moved_bytes: int | None = None) -> View:
        storage = tensor.untyped_storage()
        number = self._numbers.setdefault(storage._cdata, len(self._sizes))
        self._sizes.setdefault(number, storage.nbytes())
        moved = kernels.reach_bytes(tensor) if moved_bytes is None else moved_bytes
        return View(number, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride(), moved)


def _space(
    func: Any, args: tuple[Any, ...], reads: Sequence[Tensor], results: Sequence[Tensor]
) -> tuple[int, int]:
    """Points of an operator's loop, and rows where it reduces; neither of what a library runs."""
    packet = func._overloadpacket
    if packet in SOFTMAX:
        shape = results[0].shape
        return math.prod(shape), math.prod(shape) // (shape[args[1]] if shape else 1)
    if torch.Tag.reduction in func.tags or packet in NORMS:
        return reads[0].numel(), min(tensor.numel() for tensor in results)
    if torch.Tag.pointwise in func.tags or packet in LOOPS:
        moved = reads if packet in kernels.PUTS else results
        return max((tensor.numel() for tensor in moved), default=1), 0
    return 0, 0


class Regions:
    """What stands for `torch.compile` beside a card."""

    def __init__(self, card: FakeCard):
        self._card = card

    def compile(self, model: Any = None, **options: Any) -> Any:
        """`model`, a function or a module, as a region; without one, a decorator. The rule has no options."""
        if model is None:
            return lambda model: self.compile(model, **options)

        def call(*args: Any, **kwargs: Any) -> Any:
            cache = self._card.trace_cache
            within = any(card.region is not None for card in self._card.cards)
            if within or not compiled_runs():  # a part of one, or none
                return model(*args, **kwargs)
            if cache and not kwargs and cache.knows(model):
                return cache.call(model, args, lambda: self._run(model, args, {}))
            return self._run(model, args, kwargs)

        return call

    def _run(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        card = self._card.card_among((args, kwargs.values())) or self._card
        card.region = region = Region()
        try:
            with patched(torch.compiler, "is_compiling", lambda: True):
                output = model(*args, **kwargs)
        finally:
            card.region = None
        results = region.alive(card.blocks)
        events, numbers = _events(region.launches(results), region.made, results)
        taken = card.perform(events)
        for buffer, key in results.items():
            card.blocks[key] = taken[numbers[buffer]]
        return output


def _events(
    found: Sequence[Launch], made: Mapping[int, Alloc], results: Collection[int]
) -> tuple[list[Event], dict[int, int]]:
    """What `found` does to a card, and which allocation each buffer is. `results` stay allocated."""
    last = {buffer: launch for launch in found for buffer in launch.buffers}
    events: list[Event] = []
    numbers: dict[int, int] = {}
    count = 0
    for launch in found:
        for buffer in sorted(launch.buffers & made.keys() - numbers.keys()):
            events.append(made[buffer])
            numbers[buffer] = count
            count += 1
        if launch.workspace_bytes:
            events += Alloc(launch.workspace_bytes, "library", "workspace"), Free(count)
            count += 1
        events.append(launch.work)
        ended = (buffer for buffer in launch.buffers & numbers.keys() if last[buffer] is launch)
        events += (Free(numbers[buffer]) for buffer in sorted(ended) if buffer not in results)
    for buffer in results:
        if buffer not in numbers:  # nothing was written there
            events.append(made[buffer])
            numbers[buffer] = count
            count += 1
    return events, numbers
