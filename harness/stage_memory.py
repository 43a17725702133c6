"""Memory at each boundary of a stage: of the process, of torch's allocator, and by the driver.

    memory = StageMemory(device, engine.budget, lambda: engine.models.weights_bytes)
    with memory:
        engine.run(plan)
    memory.found()

What one of them cannot say is None, never 0. A run that is looked at so is no timed one: between two stages
the process gives back what it keeps of freed memory, or the peak of one would be that of all after it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Self

import torch

from harness import spans
from harness.device import trim_freed_memory
from harness.memory import MemoryBudget
from harness.process_memory import ProcessAccount
from harness.records.memory import Boundary, MemoryByStage

START = "start"
MIB = 2**20


class StageMemory:
    """Reads memory where a stage ends, of every recording inside. Peaks are those since the boundary before.

    `budget`: the device's memory; on a CPU there is none beside the process. `weights_bytes`: of weights that
    are on the device now.
    """

    def __init__(self, device: torch.device, budget: MemoryBudget, weights_bytes: Callable[[], int]):
        self._device = device
        self._budget = budget
        self._weights_bytes = weights_bytes
        self._process = ProcessAccount(str(device), budget)
        self._boundaries: list[Boundary] = []
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        self._reset()
        self._read(START)
        self._entered.enter_context(spans.watch(self._ended))
        return self

    def __exit__(self, *exc: object) -> None:
        self._entered.close()
        self._process.close()

    def found(self) -> MemoryByStage:
        """What was read so far, and what is wrong with it."""
        boundaries = tuple(self._boundaries)
        source = self._process.rss_source
        return MemoryByStage(boundaries=boundaries, rss_source=source, error=shortfall(boundaries))

    def _ended(self, stage: str) -> None:
        if stage:
            self._read(stage)
            self._reset()

    def _reset(self) -> None:
        trim_freed_memory()
        self._process.reset_peak()
        if self._device.type != "cpu":
            self._budget.reset_peak()

    def _read(self, stage: str) -> None:
        figures: dict[str, Any] = asdict(self._process.read()) | self._on_card()
        self._boundaries.append(Boundary(stage=stage, weights_bytes=self._weights_bytes(), **figures))

    def _on_card(self) -> dict[str, int | None]:
        """The device's figures. On MPS what is reserved is the driver's, and nobody keeps peaks."""
        card, kind = self._budget, self._device.type
        if kind == "cpu":
            return {}
        if kind == "mps":
            return {"allocated_bytes": card.allocated_bytes(), "driver_bytes": card.used_bytes()}
        return {
            "allocated_bytes": card.allocated_bytes(),
            "allocated_peak_bytes": card.peak_allocated_bytes(),
            "reserved_bytes": card.used_bytes(),
        }


def shortfall(boundaries: tuple[Boundary, ...]) -> str:
    """The first figure that cannot be, as it is below the weights that were there; empty if there is none.

    On a CPU the weights are in the process, else on the card.
    """
    for one in boundaries:
        figures = {
            "allocated peak": one.allocated_peak_bytes,
            "reserved": one.reserved_bytes,
            "driver": one.driver_bytes,
        }
        if one.allocated_bytes is None:
            figures = {"RSS peak": one.rss_peak_bytes}
        for name, size in figures.items():
            if size is not None and size < one.weights_bytes:
                return (
                    f"{one.stage}: the {name} of {size / MIB:,.0f} MiB is below the weights it ran with, "
                    f"{one.weights_bytes / MIB:,.0f} MiB; the measurement is wrong"
                )
    return ""
