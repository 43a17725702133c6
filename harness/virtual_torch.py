"""What torch is told of simulated cards: their names, their operators, their random streams.

Entered by a `harness.virtual_card.VirtualCard`, which decides what is where.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import rename_privateuse1_backend

from harness.device import VIRTUAL

if TYPE_CHECKING:
    from harness.virtual_card import VirtualCard

HOST = torch.device("cpu")
MOVES = (torch.Tensor.to, torch.Tensor.cpu)


class Names(TorchFunctionMode):
    """The cards' names, wherever torch takes or gives the name of a device."""

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
        return self._card.at(torch.device(device)).make(func, args, kwargs)

    def _move(self, func: Any, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """`Tensor.to` and `Tensor.cpu`: a copy whenever the memory is another."""
        there = self._card.card_of(tensor)
        place = _place(func, args, kwargs, self._card)
        beneath = self._card.beneath(tensor)
        if (place and place.type == "meta") or (beneath == "cpu" and tensor.is_meta):
            return func(tensor, *args, **kwargs)
        target = there if place is None else self._card.at(place) if place.type == VIRTUAL else None
        if func is torch.Tensor.cpu:
            func, args = torch.Tensor.to, ("cpu",)
        args = tuple(_local(value, beneath) for value in args)
        kwargs = {name: _local(value, beneath) for name, value in kwargs.items()}
        if target is there:
            return func(tensor, *args, **kwargs)
        with self._card.moving(target):
            return func(tensor, *args, **kwargs | {"copy": True})


class Operators(TorchDispatchMode):
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
def generators() -> Iterator[None]:
    """Inside, `torch.Generator` makes random streams of the cards, too. It is a type, which no mode sees."""
    plain: Any = torch.Generator

    class Generator(plain):
        def __new__(cls, device: str | torch.device = "cpu") -> Generator:
            place = torch.device(device)
            generator = super().__new__(cls, "cpu" if place.type == VIRTUAL else place)
            generator.place = place
            return generator

        device = property(lambda self: self.place)

    torch.Generator = Generator
    try:
        yield
    finally:
        torch.Generator = plain


@contextmanager
def wrappers(beneath: str) -> Iterator[None]:
    """Inside, a subclass that wraps tensors is made where they really are, `beneath`; no mode sees it made.

    Its own operators are not seen either, and would otherwise make it anew on the other of the two.
    """
    plain: Any = torch.Tensor._make_wrapper_subclass

    def make(cls: type[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        kwargs = {name: beneath if _is_place(value) else value for name, value in kwargs.items()}
        return plain(cls, *args, **kwargs)

    torch.Tensor._make_wrapper_subclass = staticmethod(make)
    try:
        yield
    finally:
        torch.Tensor._make_wrapper_subclass = staticmethod(plain)


def introduce() -> None:
    """Let torch read the cards' name. It then asks a module of that name about streams of random numbers,
    wherever it forks or seeds all there are: these cards have none of their own."""
    if torch._C._get_privateuse1_backend_name() == VIRTUAL:
        return
    rename_privateuse1_backend(VIRTUAL)
    module: Any = ModuleType(f"torch.{VIRTUAL}")
    module.is_available = module._is_in_bad_fork = lambda: False
    module.device_count = lambda: 0
    module.manual_seed_all = lambda seed: None
    torch._register_device_module(VIRTUAL, module)


def _place(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], card: VirtualCard
) -> torch.device | None:
    """The device that a move names, or None where it names none."""
    if func is torch.Tensor.cpu:
        return HOST
    for value in (*args, kwargs.get("device"), kwargs.get("other")):
        if isinstance(value, Tensor):
            held = card.card_of(value)
            return held.device if held else HOST
        if isinstance(value, (str, torch.device)):
            return torch.device(value)
    return None


def _is_place(value: Any) -> bool:
    """Whether a value is the device of a card, or the host."""
    return isinstance(value, torch.device) and value.type in (VIRTUAL, HOST.type)


def _local(value: Any, beneath: str) -> Any:
    """An argument of a move as the device `beneath` takes it."""
    return beneath if isinstance(value, (str, torch.device)) else value
