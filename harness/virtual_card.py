"""A simulated graphics card in host memory: the torch device `virtual`, with a fixed number of bytes.

What is on the card is known the way torch knows it. A tensor is there when it was made there or sent
there (`device="virtual"`, `.to("virtual")`) or came out of an operation on something that is; `.cpu()` and
`.to("cpu")` bring it back. So offloading, tiles and the decode ladder run as they do beside a real card,
while kernels run on the CPU. Each new storage on the card is counted until it dies; one too many raises
`torch.OutOfMemoryError`, worded as CUDA words it.

    card = VirtualCard(2 * GIB)
    with card:
        weights = torch.empty(4096, 4096, device="virtual")   # 64 MiB of the card
        weights.cpu()                                         # host memory, which is not counted

Bytes are those of tensors, to the byte, as operators make them: an allocator's rounding and caching, the
scratch memory inside a kernel, and whatever compiled code allocates are not seen. The count follows the
thread that entered; another thread's tensors are host tensors, and its `device="virtual"` is an error.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import rename_privateuse1_backend

from harness.device import VIRTUAL
from harness.memory import GIB, MemoryBudget

MIB = 2**20
READ_DEVICE = torch.Tensor.device.__get__
HOST = torch.device("cpu")
MOVES = (torch.Tensor.to, torch.Tensor.cpu)


class VirtualCard:
    """A simulated card of `cap_bytes`. Entered, it takes part in every torch call of this thread.

    The counts may be read from any thread. Raises torch.OutOfMemoryError, out of the call that asked,
    for what does not fit; the count never exceeds the cap.
    """

    peak_source = "bytes of tensors on the virtual card"
    wrapped_on = "cpu"  # where torch has the tensors that a subclass wraps

    def __init__(self, cap_bytes: int):
        _introduce()
        self.device = torch.device(VIRTUAL)
        self.cap_bytes = cap_bytes
        self._sizes: dict[int, int] = {}  # bytes by the identity of a storage
        self._used_bytes = 0
        self._peak_bytes = 0
        self._entered = ExitStack()
        self.operators = _Operators(self)
        self.answers: dict[Any, Callable[[Tensor], Any]] = {READ_DEVICE: self.device_of}
        self._moving_to_card: bool | None = None  # inside a move: where its results go, whatever it is given

    def __enter__(self) -> VirtualCard:
        self._entered.enter_context(_generators_of(self.device))
        self._entered.enter_context(_wrappers_of(self.device, self.wrapped_on))
        self._entered.enter_context(_Names(self))
        self._entered.enter_context(self.operators)
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()

    def holds(self, tensor: Tensor) -> bool:
        """Whether `tensor` is on the card."""
        return any(key_of(part) in self._sizes for part in plain(tensor))

    def device_of(self, tensor: Tensor) -> torch.device:
        """The device that `tensor` reports."""
        return self.device if self.holds(tensor) else READ_DEVICE(tensor)

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
        """The output of an operator, counted where it is on the card."""
        output = func(*args, **kwargs)
        self._account(list(tensors((args, kwargs.values()))), tensors((output,)))
        return output

    def make(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """A tensor that a factory function makes on the card."""
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

    def _account(self, inputs: Sequence[Tensor], outputs: Iterable[Tensor]) -> None:
        """Count new outputs on the card. A view, or an output that was written in place, stays put."""
        old = set(map(key_of, inputs))
        there = self._moving_to_card
        if there is None:
            there = not old.isdisjoint(self._sizes)
        for tensor in outputs if there else ():
            if key_of(tensor) not in old:
                self.take(tensor)

    def _keep(self, storage: torch.UntypedStorage) -> None:
        """Count a storage until it is freed."""
        size = storage.nbytes()
        self.check(size)
        self._sizes[storage._cdata] = size
        self._used_bytes += size
        self._peak_bytes = max(self._peak_bytes, self._used_bytes)
        weakref.finalize(storage, self._release, storage._cdata).atexit = False

    @contextmanager
    def moving(self, to_card: bool) -> Iterator[None]:
        """Inside, results go to the card, or not, whatever they come from."""
        self._moving_to_card = to_card
        try:
            yield
        finally:
            self._moving_to_card = None

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


class _Names(TorchFunctionMode):
    """The card's name, wherever torch takes or gives the name of a device."""

    def __init__(self, card: VirtualCard):
        super().__init__()
        self._card = card

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._card.answers:
            return self._card.answers[func](*args)
        if func in MOVES:
            return self._move(func, *args, **kwargs)
        device = kwargs.get("device")
        if device is None or torch.device(device).type != VIRTUAL:
            return func(*args, **kwargs)
        return self._card.make(func, args, kwargs)

    def _move(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor.to` and `Tensor.cpu`: a copy whenever the memory is another."""
        there = self._card.holds(tensor)
        place = _place(func, args, kwargs, self._card)
        if place == "meta" or (self._card.beneath(tensor) == "cpu" and tensor.is_meta):
            return func(tensor, *args, **kwargs)
        to_card = there if place is None else place == VIRTUAL
        if func is torch.Tensor.cpu:
            func, args = torch.Tensor.to, ("cpu",)
        beneath = self._card.beneath(tensor)
        args = tuple(_local(value, beneath) for value in args)
        kwargs = {name: _local(value, beneath) for name, value in kwargs.items()}
        if to_card == there:
            return func(tensor, *args, **kwargs)
        with self._card.moving(to_card):
            return func(tensor, *args, **kwargs | {"copy": True})


class _Operators(TorchDispatchMode):
    """Every operator goes by the card: what comes out of one on something there is there. So do those of
    higher order, which take operators; torch would refuse them otherwise, which a caller may catch."""

    supports_higher_order_operators = True

    def __init__(self, card: VirtualCard):
        super().__init__()
        self._card = card

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and skipping would import all of the compiler: seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind not in (Tensor, torch.nn.Parameter) for kind in types):
            return NotImplemented  # a subclass, whose own operators come here one by one
        return self._card.run(func, args, kwargs or {})


@contextmanager
def _generators_of(card: torch.device) -> Iterator[None]:
    """Inside, `torch.Generator` makes random streams of the card, too. It is a type, which no mode sees."""
    plain: Any = torch.Generator

    class Generator(plain):
        def __new__(cls, device: str | torch.device = "cpu") -> Generator:
            place = torch.device(device)
            generator = super().__new__(cls, "cpu" if place == card else place)
            generator.place = place
            return generator

        device = property(lambda self: self.place)

    torch.Generator = Generator
    try:
        yield
    finally:
        torch.Generator = plain


@contextmanager
def _wrappers_of(card: torch.device, beneath: str) -> Iterator[None]:
    """Inside, a subclass that wraps tensors is made where they really are, `beneath`; no mode sees it made.

    Its own operators are not seen either, and would otherwise make it anew on the other of the two.
    """
    plain: Any = torch.Tensor._make_wrapper_subclass

    def make(cls: type[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        kwargs = {name: beneath if value in (card, HOST) else value for name, value in kwargs.items()}
        return plain(cls, *args, **kwargs)

    torch.Tensor._make_wrapper_subclass = staticmethod(make)
    try:
        yield
    finally:
        torch.Tensor._make_wrapper_subclass = staticmethod(plain)


def _introduce() -> None:
    """Let torch read the card's name. It then asks a module of that name about streams of random numbers,
    wherever it forks or seeds all there are: this card has none of its own."""
    if torch._C._get_privateuse1_backend_name() == VIRTUAL:
        return
    rename_privateuse1_backend(VIRTUAL)
    module: Any = ModuleType(f"torch.{VIRTUAL}")
    module.is_available = module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 0
    module.manual_seed_all = lambda seed: None
    torch._register_device_module(VIRTUAL, module)


def tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Every tensor in `values`, however deep. A storage has none, and would be gone through byte by byte."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Iterable) and not isinstance(value, (str, UntypedStorage)):
            yield from tensors(value)


def plain(tensor: Tensor) -> Iterator[Tensor]:
    """The tensors with memory that a tensor is made of; of a plain one, itself."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = getattr(tensor, "__tensor_flatten__")()  # noqa: B009  # only subclasses have it
    for name in names:
        yield from plain(getattr(tensor, name))


def key_of(tensor: Tensor) -> int:
    """Identity of the storage that `tensor` lies in."""
    return tensor.untyped_storage()._cdata


def _place(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], card: VirtualCard) -> str | None:
    """Type of the device that a move names, or None where it names none."""
    if func is torch.Tensor.cpu:
        return "cpu"
    for value in (*args, kwargs.get("device"), kwargs.get("other")):
        if isinstance(value, Tensor):
            return VIRTUAL if card.holds(value) else "cpu"
        if isinstance(value, (str, torch.device)):
            return torch.device(value).type
    return None


def _local(value: Any, beneath: str) -> Any:
    """An argument of a move as the device `beneath` takes it."""
    return beneath if isinstance(value, (str, torch.device)) else value


def _amount(size: int) -> str:
    if size < MIB:
        return f"{size / 1024:.2f} KiB"
    return f"{size / MIB:.2f} MiB" if size < GIB else f"{size / GIB:.2f} GiB"
