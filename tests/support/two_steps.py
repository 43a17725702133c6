"""Two steps running on the fake card: whether a step may be recorded once and replayed.

A recording repeats kernels with their arguments: addresses, shapes, numbers. So of two steps running each has
to be the other's copy, operator by operator and block by block; nothing goes to or from the host, and what is
allocated is freed. Everything that a step only advances by one on the card, such as positions, passes.

    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        check_two_steps(card, step)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.trace.allocator import Block
from harness.trace.fake_card import FakeCard
from harness.trace.stage_costs import Work
from harness.trace.tracker import Alloc
from harness.virtual_card import key_of, plain, tensors


class Recorded(TorchDispatchMode):
    """What one step did to a card: `events` in order, and of them the `faults` that no recording forgives."""

    def __init__(self, card: FakeCard):
        super().__init__()
        self.card = card
        self.events: list[tuple[Any, ...]] = []
        self.faults: list[str] = []
        self._open: dict[int, Alloc] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def run(self, step: Callable[[], object]) -> None:
        """Call `step`, from the state of the allocator to the state of the allocator."""
        allocator, listeners = self.card.tracker.allocator, self.card.tracker.listeners
        reserved_bytes = allocator.reserved_bytes
        listeners.append(self)
        try:
            with self:
                step()
        finally:
            listeners.remove(self)
        for alloc in self._open.values():
            self.faults.append(f"{alloc.operator} in {alloc.site}: {alloc.size} bytes stay allocated")
        if allocator.reserved_bytes != reserved_bytes:
            self.faults.append(f"the card was asked for {allocator.reserved_bytes - reserved_bytes} bytes")

    def on_alloc(self, block: Block, alloc: Alloc) -> None:
        self._open[id(block)] = alloc
        self.events.append((alloc.operator, "takes", block.address, alloc.size, alloc.site))

    def on_free(self, block: Block) -> None:
        if self._open.pop(id(block), None) is None:
            self.faults.append(f"a block at {block.address} of before is freed")
        self.events.append(("frees", block.address, block.size_bytes))

    def on_op(self, work: Work) -> None:
        if work.crosses:
            self.faults.append(f"{self.card.operator}: host and card meet ({work})")
        self.events.append((self.card.operator, work))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.events.append((str(func), *self._arguments((args, kwargs))))
        if torch.Tag.nondeterministic_seeded in func.tags and not _may_drop_out(func):
            self.faults.append(f"{func}: draws random numbers")
        old = set(map(key_of, tensors((args, kwargs.values()))))
        output = func(*args, **kwargs)
        for tensor in tensors((output,)):
            if not self.card.holds(tensor) and key_of(tensor) not in old:
                self.faults.append(f"{func}: makes a tensor of the host")
        return output

    def _arguments(self, value: Any) -> Iterator[Any]:
        """The parts of an argument that a recording holds: where tensors lie, and what is no tensor."""
        if isinstance(value, Tensor):
            for part in plain(value):
                block = self.card.block_of(part)
                address = block.address if block else "host"
                yield address, part.storage_offset(), tuple(part.shape), part.stride(), part.dtype
        elif isinstance(value, (tuple, list)):
            for part in value:
                yield from self._arguments(part)
        elif isinstance(value, dict):
            for name, part in value.items():
                yield name
                yield from self._arguments(part)
        else:
            yield value


def _may_drop_out(func: Any) -> bool:
    """Attention, which has the tag for a dropout that nothing here uses."""
    return any(argument.name == "dropout_p" for argument in func._schema.arguments)


def check_two_steps(card: FakeCard, step: Callable[[], object]) -> list[tuple[Any, ...]]:
    """Hold two steps running against each other, after one that takes what stays; what each of them did.

    Raises AssertionError that names the first operator that differs, or what no recording forgives.
    """
    step()
    first, second = Recorded(card), Recorded(card)
    first.run(step)
    second.run(step)
    faults = first.faults + second.faults
    assert not faults, "\n".join(faults[:5])
    assert first.events, "nothing has run on the card"
    for number, (before, after) in enumerate(zip_longest(first.events, second.events)):
        assert before == after, f"event {number} is {before} in the first step, {after} in the second"
    return first.events
