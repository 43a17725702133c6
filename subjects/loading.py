"""What the engines here do alike as they load: the memory that they have, and what records say of them.

torch is imported by what loads, not by who plans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator
from harness.memory import MemoryBudget, hold_to

if TYPE_CHECKING:
    import torch

CUDA = "cuda"


def memory(card: Accelerator, device: torch.device) -> MemoryBudget:
    """The memory of `device`. Where `MAX_CUDA_VRAM` says how large a CUDA `card` is, this process is held to
    that from here on: ask for it before anything is loaded."""
    if card.simulated and device.type == CUDA:
        return hold_to(device, card.memory_gib)
    return MemoryBudget(device)


def not_held(card: Accelerator) -> tuple[str, ...]:
    """A line where `MAX_CUDA_VRAM` says a size that this `card` is not held to."""
    if not card.simulated or card.device == CUDA:
        return ()
    size = f"{MAX_VRAM_VARIABLE}: {card.memory_gib:g} GB"
    return (f"{size} holds a CUDA card alone; this is {card.name}, with all of its memory",)


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
