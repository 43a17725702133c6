"""The link between a fake card and its host: what goes over it, whether the host waits, and who asked.

A copy to another card goes by way of the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harness.trace.allocator import Block
from harness.trace.stage_costs import Work
from harness.trace.storage import FakeStorage, line, site
from harness.trace.tracker import Alloc
from harness.virtual_card import key_of

aten = torch.ops.aten


class LinkedCard(FakeStorage):
    """A card of which kernels are counted, and copies over its link."""

    def launch(self, work: Work, inputs: Sequence[Tensor] = (), results: Sequence[Tensor] = ()) -> None:
        """Count a kernel that is no operator of ATen, from tensors on the card to tensors on the card."""
        if self.region is not None:
            self.region.library(work, inputs, results)
        else:
            self.tracker.charge(work)

    def _cross(
        self, work: Work, inputs: Sequence[Tensor] = (), results: Sequence[Tensor] = (), to_host: bool = False
    ) -> None:
        """Count a copy over the link, and who asked for it."""
        self.launch(work, inputs, results)
        stage = self.tracker.stage_costs.stage()
        (stage.reads if to_host else stage.copies)[f"{self.operator} at {line()}"] += 1

    def _between(self, func: Any, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> bool:
        """Count a copy from another card, if this is one: it goes by way of the host, which does not wait.

        Raises RuntimeError for any other operator on tensors of two cards, and where a step is recorded on
        another card than the operator's.
        """
        if any(card.tracker.recording is not None for card in self.cards if card is not self):
            raise RuntimeError(
                f"{self.operator}: on {self.device}, in a step that is recorded on another card"
            )
        elsewhere = [card for tensor in inputs if (card := self.card_of(tensor)) and card is not self]
        if not elsewhere:
            return False
        if func._overloadpacket not in (aten.copy_, aten._to_copy, aten.clone):
            raise RuntimeError(
                f"{self.operator}: a tensor on {elsewhere[0].device} meets one on {self.device}"
            )
        (source,), size = elsewhere, results[0].nbytes
        source.operator = self.operator
        source._cross(Work(to_host_bytes=size, launches=1), inputs, to_host=True)
        self._take_new(inputs, results)
        self._cross(Work(to_card_bytes=size), (), results)
        return True

    def _send(self, index: Tensor) -> Block:
        """An index that is written as a list goes over before the operator that uses it."""
        self._cross(Work(to_card_bytes=index.nbytes, launches=1, syncs=1))
        return self.obtain(Alloc(index.nbytes, self.operator, site()))

    def _take_new(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        old = set(map(key_of, inputs))
        for tensor in outputs:
            if key_of(tensor) not in old:
                self.take(tensor)

    def _crosses(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Tensor],
        outputs: list[Tensor],
    ) -> bool:
        """Count a copy over the link, if this is one. The host waits for it unless it was told not to.

        A copy in another dtype is converted where it comes from: on its way to the host it is there twice.
        """
        packet = func._overloadpacket
        if packet is aten.copy_:
            target, source = args[:2]
            to_card, from_card = self.holds(target), self.holds(source)
        elif packet is aten._to_copy or packet is aten.clone:
            target, source = outputs[0], args[0]
            to_card, from_card = self.head._target is not None, bool(inputs)
        elif packet in (aten.lift_fresh, aten.lift_fresh_copy) and not inputs:
            target, to_card, from_card = outputs[0], True, False
            source = target
        else:
            return False
        if to_card == from_card:
            return False
        waits = int(not kwargs.get("non_blocking"))
        if to_card:
            self._take_new(inputs, outputs)
            self._cross(Work(to_card_bytes=target.nbytes, launches=1, syncs=waits), (), outputs)
            return True
        if source.dtype != target.dtype:
            self.tracker.give(self.obtain(Alloc(target.nbytes, self.operator, site())))
            converts = Work(read_bytes=source.nbytes, written_bytes=target.nbytes, launches=1)
            self.launch(converts, inputs)
        self._cross(Work(to_host_bytes=target.nbytes, launches=1, syncs=waits), inputs, to_host=True)
        return True

    def _value(self, tensor: Tensor) -> bool | float | int:
        """What reads back as a number."""
        if self.holds(tensor):
            self.operator = "aten::_local_scalar_dense"
            self._cross(Work(to_host_bytes=tensor.nbytes, launches=1, syncs=1), [tensor], to_host=True)
        return True if tensor.dtype == torch.bool else 1.0 if tensor.is_floating_point() else 0

    def _values(self, tensor: Tensor) -> Any:
        """What reads back as lists of numbers, in one go."""
        if not self.is_fake(tensor):
            return Tensor.tolist(tensor)
        value = self._value(tensor)
        for length in reversed(tensor.shape):
            value = [value] * length
        return value
