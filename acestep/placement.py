"""Parts on different devices: a text such as `dit=cuda:0,lm=cuda:1`, and what it comes to. No torch here.

What is not named is on the engine's own device. A part has its others with it: the encoder of recordings is
where the VAE is, and what is beside the condition encoder where that is.
"""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from acestep import components
from harness import accelerators
from harness.accelerators import Accelerator
from harness.checks import shown
from harness.dtypes import AUTO
from harness.errors import MissingPrerequisite, UsageError

PARTS = (*components.GENERATION, components.LM)  # that are placed
WITH = {  # the others, and with which of the parts they are
    components.VAE_ENCODER: components.VAE,
    components.TIMBRE: components.CONDITION,
    components.TOKENIZER: components.CONDITION,
    components.DETOKENIZER: components.CONDITION,
}
DEVICE = re.compile(r"(cpu|mps|cuda)(?::([0-9]{1,4}))?")
VIRTUAL = "virtual"  # what stands in for cards (`harness.device`)
Lookup = Callable[[str], Accelerator]  # of a device, by its name


@dataclass(frozen=True, slots=True)
class Place:
    """A part that is not on the engine's own device: `device` is cpu, mps or cuda:N."""

    part: str
    device: str
    accelerator: Accelerator

    def __str__(self) -> str:
        return f"{self.part}={self.device}"


@dataclass(frozen=True, slots=True)
class Devices:
    """The engine's own device, of no part by name, and the parts that are elsewhere."""

    own: Place
    elsewhere: tuple[Place, ...]

    def of(self, part: str) -> Place:
        """Where a part is."""
        return next((place for place in self.elsewhere if place.part == part), self.own)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What they are, each once: cuda, mps or cpu."""
        return tuple(dict.fromkeys(place.accelerator.device for place in (self.own, *self.elsewhere)))


def parse(text: str) -> dict[str, str]:
    """The device of each part that a text names. Raises UsageError: what, and what is allowed."""
    devices: dict[str, str] = {}
    for entry in text.split(","):
        part, _, device = (word.strip() for word in entry.partition("="))
        if part in WITH:
            raise UsageError(f"place: {part} is always with {WITH[part]}; place that one")
        if part not in PARTS:
            raise UsageError(f"place: {shown(part)} is no part; use {', '.join(PARTS)}, as in dit=cuda:0")
        if part in devices:
            raise UsageError(f"place: {part} is named twice; keep one of them")
        devices[part] = name_of(device, f"{part}={device}")
    return devices


def checked(text: str) -> str:
    """`text`, which is a placement. Raises ArgumentTypeError."""
    try:
        parse(text)
    except UsageError as error:
        raise ArgumentTypeError(str(error).removeprefix("place: ")) from None
    return text


def name_of(device: str, what: str = "") -> str:
    """A device by its full name: a card without a number is the first. Raises UsageError, about `what`."""
    match = DEVICE.fullmatch(device)
    if match is None or (match[2] and match[1] != "cuda"):
        raise UsageError(f"place: {shown(what or device)} is on no device; use cuda, cuda:N, mps or cpu")
    return f"cuda:{int(match[2] or 0)}" if match[1] == "cuda" else match[1]


def where(device: str, text: str | None, accelerator: Accelerator | None, beside: Lookup | None) -> Devices:
    """The engine's device, and the parts that a text has elsewhere.

    Where no device is named and all parts are on one, that is the engine's. `beside`: what the other cards
    are; by default those that are here, beside a simulated `accelerator` its like. Raises UsageError for what
    is no placement, MissingPrerequisite for a device that is not there.
    """
    devices = parse(text) if text else {}
    card, own = accelerators.of_run(device, accelerator)
    lookup = beside or (here if accelerator is None else partial(_alike, card))
    places = _placed(devices, name_of(own.replace(VIRTUAL, "cuda")), lookup)
    together = {*devices} == {*PARTS} and len({*devices.values()}) == 1
    if places and together and accelerator is None and device == AUTO:
        return Devices(replace(places[0], part=""), ())
    return Devices(Place("", own, card), places)


def _placed(devices: dict[str, str], own: str, lookup: Lookup) -> tuple[Place, ...]:
    """The parts that are elsewhere than on `own`, the device of the rest, in the order they are loaded."""
    elsewhere = [(part, devices[part]) for part in PARTS if devices.get(part, own) != own]
    return tuple(Place(part, device, _found(part, device, lookup)) for part, device in elsewhere)


def _found(part: str, device: str, lookup: Lookup) -> Accelerator:
    try:
        return lookup(device)
    except MissingPrerequisite as error:
        reason = str(error).removeprefix("device: ")
        raise MissingPrerequisite(f"place: {part}={device}: {reason}") from None


def here(device: str) -> Accelerator:
    """The device of this machine. Raises MissingPrerequisite where it has none of the name."""
    try:
        return accelerators.detect(device)
    except MissingPrerequisite:
        raise MissingPrerequisite(
            f"device: there is no {device} here; python -m acestep --list-devices says what there is"
        ) from None


def _alike(card: Accelerator, device: str) -> Accelerator:
    """What is beside a card that is simulated."""
    return card if device.startswith(card.device) else here(device)


def components_of(places: Iterable[Place], own: str = "") -> dict[str, str]:
    """The device of every component that has one of its own; its like where `own` stands for a card."""
    cards = VIRTUAL if own.startswith(VIRTUAL) else "cuda"
    devices = {place.part: place.device.replace("cuda", cards) for place in places}
    return {
        name: devices[part] for name in components.COMPONENTS if (part := WITH.get(name, name)) in devices
    }


def index_of(device: str) -> int | None:
    """The number of a card; None for what is none."""
    return int(device.partition(":")[2]) if device.startswith("cuda") else None


def beside(places: Iterable[Place]) -> int:
    """How many cards there have to be beside the first."""
    return max((index_of(place.device) or 0 for place in places), default=0)
