"""What an engine runs on and with, for records: as it was chosen, and read back from what is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from acestep import components
from acestep.lm.planner import Planner
from acestep.setup import Setup
from acestep.weights.loading import Models
from harness.device import describe
from harness.memory import MemoryBudget
from harness.nn.islands import islands
from harness.quantization import scheme


def described(setup: Setup, models: Models, planner: Planner | None) -> dict[str, Any]:
    """What holds as long as nothing more is loaded."""
    staying = (f"{place.part} stays on {place.device}" for place in setup.placed)
    return {
        "device": str(models.device),
        "device_name": describe(models.device),
        "dtype": str(models.dtype).removeprefix("torch."),
        "source": setup.source,
        "source_origin": setup.source_origin,
        "dit": setup.dit,
        "lm": setup.lm,
        "lm_backend": planner.backend.name if planner else None,
        **formats(models),
        "compile": setup.compile,
        "graphs": setup.graphs,
        "offload": "; ".join((components.describe(setup.offloaded, str(models.device)), *staying)),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }


def formats(models: Models) -> dict[str, str | None]:
    """The formats of weights that are not `dtype`, of those that are loaded."""
    return {
        "islands": ", ".join(islands(models.ace_step, models.dtype)) or None,
        "quantization": scheme(models.ace_step.decoder.layers),
        "lm_quantization": scheme(models.lm.layers) if models.lm else None,
    }


def placed(models: Models, budgets: Mapping[torch.device, MemoryBudget]) -> dict[str, Any]:
    """Where each part was used last, and the peak of each device since it was reset."""
    places = (f"{part}={device}" for part, device in models.residency.used_on().items())
    peaks = {f"peak_bytes_{device}": budget.peak_bytes() for device, budget in budgets.items()}
    return {"placed": ", ".join(places), **peaks}
