"""An engine whose networks are on one device: how it is loaded, what is read of its memory and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
from torch import nn

from harness.device import (
    hold_precision,
    keep_freed_memory,
    resolve_device,
    return_freed_memory,
    synchroniser,
)
from harness.memory import MemoryBudget
from harness.stage_memory import StageMemory


class Networks(Protocol):
    """Networks on one device."""

    @property
    def device(self) -> torch.device: ...
    @property
    def weights_bytes(self) -> int: ...

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """By name, in the order a request runs them."""
        ...


Held = TypeVar("Held", bound=Networks)
Setup = TypeVar("Setup")


class LoadedEngine(Generic[Held, Setup]):
    """Loaded networks on one device. A subclass says by `choose` how a setup is chosen, and loads one."""

    choose: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        networks: Held,
        setup: Setup,
        budget: MemoryBudget,
        environment: Mapping[str, Any],
        load_s: float,
    ):
        self.networks = networks
        self.setup = setup
        self.budget = budget
        self.environment = environment
        self.load_s = load_s
        self._sync = synchroniser(networks.device)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        **choices: Any,
    ) -> Self:
        """Load what every request needs; `choices` are those of `Setup.choose`, which says what they mean.

        Raises UsageError, MissingPrerequisite or CheckpointError, each naming what and where.
        """
        return cls.from_setup(cls.choose(source, **choices), threads=threads, budget=budget)

    @classmethod
    def from_setup(
        cls, setup: Any, *, threads: int | None = None, budget: MemoryBudget | None = None
    ) -> Self:
        """Load what a setup says. Raises as `load` does."""
        raise NotImplementedError

    def peaks_bytes(self) -> dict[str, int]:
        """Peaks of memory since they were reset, from each source the device has."""
        if self.networks.device.type == "cpu":
            return {"rss": self.budget.peak_bytes()}
        return {"allocated": self.budget.peak_allocated_bytes(), "reserved": self.budget.peak_bytes()}

    def stage_memory(self) -> StageMemory:
        """What reads memory where each stage of the runs inside it ends."""
        return StageMemory(self.networks.device, self.budget, lambda: self.networks.weights_bytes)


def loaded(
    device: str,
    load: Callable[[torch.device], Held],
    *,
    threads: int | None = None,
    budget: MemoryBudget | None = None,
) -> tuple[Held, MemoryBudget, float]:
    """What `load` has made on `device`, the memory it is within, and the seconds it took."""
    start = time.perf_counter()
    if threads:
        torch.set_num_threads(threads)
    place = resolve_device(device)
    hold_precision(place)
    budget = budget or MemoryBudget(place)
    return_freed_memory()  # while loading: of what passes through, nothing is needed again
    networks = load(place)
    keep_freed_memory(place)
    if sync := synchroniser(place):
        sync()
    return networks, budget, time.perf_counter() - start


def read_back(networks: Networks, what: str) -> str:
    """The `device` or the `dtype` of all weights, as they have it."""
    values = {
        str(getattr(parameter, what)).removeprefix("torch.")
        for _, module in networks.modules()
        for parameter in module.parameters()
    }
    return ", ".join(sorted(values))
