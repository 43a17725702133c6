"""Simulated graphics cards in host memory: the torch devices `virtual`, `virtual:1`, each of so many bytes.

What is on the card is known the way torch knows it. A tensor is there when it was made there or sent
there (`device="virtual"`, `.to("virtual")`) or came out of an operation on something that is; `.cpu()` and
`.to("cpu")` bring it back. So offloading, tiles and the decode ladder run as they do beside a real card,
while kernels run on the CPU. Each new storage on the card is counted until it dies; one too many raises
`torch.OutOfMemoryError`, worded as CUDA words it.

    card = VirtualCard(2 * GIB)
    with card:
        weights = torch.empty(4096, 4096, device="virtual")   # 64 MiB of the card
        weights.cpu()                                         # host memory, which is not counted

    with VirtualCard(2 * GIB, beside=[VirtualCard(GIB)]) as card:   # `virtual` and `virtual:1`
        weights.to("virtual:1")             # a copy from one card to the other

What torch refuses of two cards these refuse, too: an operator on tensors of both, but for a copy.

Bytes are those of tensors, to the byte, as operators make them: an allocator's rounding and caching, the
scratch memory inside a kernel, and whatever compiled code allocates are not seen. The count follows the
thread that entered; another thread's tensors are host tensors, and its `device="virtual"` is an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, UntypedStorage
from torch.nn import Parameter

from harness import memory
from harness.device import VIRTUAL
from harness.memory import GIB, MemoryBudget
from harness.virtual_torch import HOST as HOST
from harness.virtual_torch import Names, Operators, generators, introduce, wrappers

MIB = 2**20
READ_DEVICE = torch.Tensor.device.__get__
COPIES = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default, torch.ops.aten.clone.default)
NO_TENSORS = (str, UntypedStorage, int, float, torch.dtype, type(None))  # of most of what is asked
STAY = object()  # of a move's target: there is no move


class VirtualCard:
    """A simulated card of `cap_bytes`, and those `beside` it. Entered, they take part in every torch call of
    this thread.

    The counts are those of the card itself, and may be read from any thread. Raises torch.OutOfMemoryError,
    out of the call that asked, for what does not fit; the count never exceeds the cap.
    """

    peak_source = "bytes of tensors on the virtual card"
    wrapped_on = "cpu"  # where torch has the tensors that a subclass wraps

    def __init__(self, cap_bytes: int, beside: Sequence[Self] = ()):
        introduce()
        self.cap_bytes = cap_bytes
        self.cards: tuple[Self, ...] = (self, *beside)
        self._sizes: dict[int, int] = {}  # bytes by the identity of a storage
        self._used_bytes = 0
        self._peak_bytes = 0
        self._entered = ExitStack()
        self.operators = Operators(self)
        self.answers: dict[Any, Callable[[Tensor], Any]] = {READ_DEVICE: self.device_of}
        # Inside a move: the card that its results go to, whatever it is given; None is the host.
        self._target: Any = STAY
        self.device = torch.device(VIRTUAL)
        for index, card in enumerate(beside, start=1):
            card.device = torch.device(VIRTUAL, index)
            card.cards, card.operators = self.cards, self.operators

    def __enter__(self) -> Self:
        memory.stand_ins[VIRTUAL] = lambda device: self.at(torch.device(device))
        self._entered.callback(memory.stand_ins.pop, VIRTUAL, None)
        self._entered.enter_context(generators())
        self._entered.enter_context(wrappers(self.wrapped_on))
        self._entered.enter_context(Names(self))
        self._entered.enter_context(self.operators)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()

    @property
    def head(self) -> Self:
        """The one that is entered."""
        return self.cards[0]

    def at(self, device: torch.device) -> Self:
        """The card that is called `device`. Raises RuntimeError where there is none."""
        index = device.index or 0
        if index >= len(self.cards):
            raise RuntimeError(f"invalid device ordinal: there is no {device}, of {len(self.cards)}")
        return self.cards[index]

    def card_of(self, tensor: Tensor) -> Self | None:
        """The card that `tensor` is on; None for the host."""
        return next((card for card in self.cards if card.holds(tensor)), None)

    def card_among(self, values: Iterable[Any]) -> Self | None:
        """The card of the first tensor in `values` that is on one."""
        return next(filter(None, map(self.card_of, tensors(values))), None)

    def holds(self, tensor: Tensor) -> bool:
        """Whether `tensor` is on this card."""
        return any(key_of(part) in self._sizes for part in plain(tensor))

    def device_of(self, tensor: Tensor) -> torch.device:
        """The device that `tensor` reports."""
        card = self.card_of(tensor)
        return card.device if card else READ_DEVICE(tensor)

    def beneath(self, tensor: Tensor) -> str:
        """The device that torch has `tensor` on."""
        return "cpu"

    def take(self, tensor: Tensor) -> None:
        """Count the storage of `tensor`, if it is not counted yet. Raises torch.OutOfMemoryError."""
        for part in plain(tensor):
            storage = part.untyped_storage()
            if storage._cdata not in self._sizes and not part.is_meta:
                self._keep(storage)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of an operator, counted where it is on a card."""
        output = func(*args, **kwargs)
        self._account(func, list(tensors((args, kwargs.values()))), tensors((output,)))
        return output

    def make(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A tensor that a factory function makes on this card."""
        shape_of = {name: value for name, value in kwargs.items() if name != "generator"}
        self.check(func(*args, **shape_of | {"device": "meta"}).nbytes)  # before it costs host memory
        tensor = func(*args, **kwargs | {"device": "cpu"})
        self.take(tensor)
        return tensor

    def check(self, size: int) -> None:
        """Raise torch.OutOfMemoryError unless `size` more bytes fit."""
        free = self.available_bytes()
        if size > free:
            raise torch.OutOfMemoryError(
                f"Virtual card out of memory. Tried to allocate {_amount(size)}. It has a total capacity of "
                f"{_amount(self.cap_bytes)} of which {_amount(free)} is free."
            )

    def _account(self, func: Any, inputs: Sequence[Tensor], outputs: Iterable[Tensor]) -> None:
        """Count new outputs on their card. A view, or an output that was written in place, stays put."""
        old = set(map(key_of, inputs))
        there = [card for card in self.cards if not old.isdisjoint(card._sizes)]
        if len(there) > 1 and func not in COPIES:
            raise RuntimeError(
                f"{func}: expected all tensors on one device, found {there[0].device} and others"
            )
        target = self._target if self._target is not STAY else there[0] if there else None
        if target is None:
            return
        for tensor in outputs:
            if key_of(tensor) not in old:
                target.take(tensor)

    def _keep(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        size = storage.nbytes()
        self.check(size)
        self._sizes[storage._cdata] = size
        self._used_bytes += size
        self._peak_bytes = max(self._peak_bytes, self._used_bytes)
        weakref.finalize(storage, self._release, storage._cdata).atexit = False

    @contextmanager
    def moving(self, target: VirtualCard | None) -> Iterator[None]:
        """Inside, results go to a card, or to the host (None), whatever they come from."""
        self.head._target = target
        try:
            yield
        finally:
            self.head._target = STAY

    def _release(self, key: int) -> None:
        self._used_bytes -= self._sizes.pop(key)

    def total_bytes(self) -> int:
        return self.cap_bytes

    def available_bytes(self) -> int:
        return self.cap_bytes - self._used_bytes

    def used_bytes(self) -> int:
        return self._used_bytes

    def allocated_bytes(self) -> int:
        return self._used_bytes

    def peak_bytes(self) -> int:
        return self._peak_bytes

    def peak_allocated_bytes(self) -> int:
        return self._peak_bytes

    def reset_peak(self) -> None:
        self._peak_bytes = self._used_bytes


class VirtualBudget(MemoryBudget):
    """The memory of a virtual card, for everything that decides by memory."""

    def __init__(self, card: VirtualCard):
        self._device = card
        self.cap_bytes = card.cap_bytes


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Every tensor in `values`, however deep. A storage has none, and would be gone through byte by byte."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif not isinstance(value, NO_TENSORS) and isinstance(value, Iterable):
            yield from tensors(value)


def plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors with memory that a tensor is made of; of a plain one, itself."""
    if is_plain(tensor) or not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = getattr(tensor, "__tensor_flatten__")()  # noqa: B009  # only subclasses have it
    for name in names:
        yield from plain(getattr(tensor, name))


def is_plain(tensor: Tensor) -> bool:
    """Whether `tensor` is known to be made of no others: by its type, which is quick."""
    return type(tensor) is Tensor or type(tensor) is Parameter


def key_of(tensor: Tensor) -> int:
    """Identity of the storage that `tensor` lies in."""
    return tensor.untyped_storage()._cdata


def _amount(size: int) -> str:
    if size < MIB:
        return f"{size / 1024:.2f} KiB"
    return f"{size / MIB:.2f} MiB" if size < GIB else f"{size / GIB:.2f} GiB"
