"""What plans and records of the engines here say alike: a size that is not held to, device and dtype.

torch is imported by what loads, not by who plans.
"""

from __future__ import annotations

from typing import Any

from harness.accelerators import MAX_VRAM_VARIABLE, Accelerator


def not_held(card: Accelerator) -> tuple[str, ...]:
    """A line where `MAX_CUDA_VRAM` says a size that this `card` is not held to."""
    if not card.simulated or card.device == "cuda":
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
