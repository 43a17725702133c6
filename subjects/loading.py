"""What the engines here do alike as they load: the memory that they have, and what records say of them."""

from __future__ import annotations

from typing import Any

import torch

from harness.accelerators import Accelerator
from harness.device import describe
from harness.engine import read_back
from harness.memory import MemoryBudget, hold_to


def memory(card: Accelerator, device: torch.device) -> MemoryBudget:
    """The memory of `device`. Where `MAX_CUDA_VRAM` says how large a CUDA `card` is, this process is held to
    that from here on: ask for it before anything is loaded."""
    if card.simulated and device.type == "cuda":
        return hold_to(device, card.memory_gib)
    return MemoryBudget(device)


def environment(setup: Any, networks: Any) -> dict[str, Any]:
    """What an engine of `setup` runs on and with, for records: device and dtype as the weights have them."""
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
