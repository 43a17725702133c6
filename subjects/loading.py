"""What plans and records of the engines here say alike: a size that is not held to, how long a recording is,
device and dtype.

torch is imported by what loads, not by who plans.
"""

from __future__ import annotations

from typing import Any

from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator
from harness.errors import MissingPrerequisite


def not_held(card: Accelerator) -> tuple[str, ...]:
    """A line where `MAX_CUDA_VRAM` says a size that this `card` is not held to."""
    if not card.simulated or card.device == "cuda":
        return ()
    size = f"{MAX_VRAM_VARIABLE}: {card.memory_gib:g} GB"
    return (f"{size} holds a CUDA card alone; this is {card.name}, with all of its memory",)


def heard_s(name: str, path: str, least_s: float) -> float:
    """Seconds of the recording at `path`, `least_s` at least.

    Raises MissingPrerequisite, about `name`, for one that cannot be read or is shorter.
    """
    from harness.sound import duration_s

    there_s = duration_s(name, path)
    if there_s >= least_s:
        return there_s
    if there_s:
        raise MissingPrerequisite(f"{name}: {path!r} is under {least_s:g} s; name a longer recording")
    raise MissingPrerequisite(f"{name}: {path!r} has no whole samples; is the download complete?")


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
