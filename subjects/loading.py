"""What plans and records of the engines here say alike: a size that is not held to, how long a recording is,
device and dtype.

torch is imported by what loads, not by who plans.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator
from harness.errors import MissingPrerequisite

if TYPE_CHECKING:
    from harness.adjustments import Adjustments


def not_held(card: Accelerator) -> tuple[str, ...]:
    """A line where `MAX_CUDA_VRAM` says a size that this `card` is not held to."""
    if not card.simulated or card.device == "cuda":
        return ()
    size = f"{MAX_VRAM_VARIABLE}: {card.memory_gib:g} GB"
    return (f"{size} holds a CUDA card alone; this is {card.name}, with all of its memory",)


def heard_s(name: str, path: str, least_s: float, wanted_s: float, changes: Adjustments) -> float:
    """Seconds of the recording at `path`, `least_s` at least. One that is cut off before `wanted_s` is noted.

    Raises MissingPrerequisite, about `name`, for one that cannot be read or is shorter.
    """
    from harness.sound import length

    there_s, cut = length(name, path)
    if not there_s:
        raise MissingPrerequisite(f"{name}: {path!r} has no whole samples; is the download complete?")
    if there_s < least_s:
        raise MissingPrerequisite(f"{name}: {path!r} is under {least_s:g} s; name a longer recording")
    if cut and there_s < wanted_s:
        readable = f"the {there_s:.2f} s that can be read"
        changes.note(name, path, readable, "is cut off, or damaged", remedy="give a whole file")
    return there_s


def ends_early(name: str, path: str, there_s: float, said_s: float, remedy: str = "") -> MissingPrerequisite:
    """What is said of a recording of which `there_s` of the `said_s` of its header can be read. `remedy`:
    what else can be done, with a place for the seconds that are there."""
    shown = f"{math.floor(100 * there_s) / 100:.2f}"
    ends = f"ends after {shown} s of the {said_s:.2f} s it is said to have"
    other = f" {remedy.format(shown)}" if remedy else ""
    return MissingPrerequisite(f"{name}: {path!r} {ends}; is the download complete?{other}")


def environment(setup: Any, networks: Any) -> dict[str, Any]:
    """What an engine of `setup` runs on and with, for records: device and dtype as the weights have them."""
    import torch

    from harness.device import describe
    from harness.engine import read_back

    return {
        "device": read_back(networks, "device"),
        "device_name": describe(networks.device),
        "dtype": read_back(networks, "dtype"),
        "source": setup.source,
        "source_origin": setup.source_origin,
        "model": setup.model,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }
