"""An engine of loaded models: how it is loaded, what its results say of a run, what is read of its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from harness.spans import Times
from harness.stage_memory import StageMemory


class Loaded(Protocol):
    """Models on a device, all of them or but for parts with one of their own."""

    @property
    def device(self) -> torch.device: ...
    @property
    def weights_bytes(self) -> int: ...  # of weights that are on it now


class Networks:
    """Networks on one `device`."""

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """By name, in the order a request runs them."""
        raise NotImplementedError

    @property
    def weights_bytes(self) -> int:
        """Of all parameters, each memory once."""
        return sum(p.nbytes for _, module in self.modules() for p in module.parameters())


Models = TypeVar("Models", bound=Loaded)
Setup = TypeVar("Setup")


class LoadedEngine(Generic[Models, Setup]):
    """Loaded models. A subclass says by `choose` how a setup is chosen, and loads one."""

    choose: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        models: Models,
        setup: Setup,
        budget: MemoryBudget,
        environment: Mapping[str, Any],
        load_s: float,
    ):
        """`budget`: the memory of `models.device`."""
        self.models = models
        self.setup = setup
        self.budget = budget
        self.load_s = load_s
        self._environment = environment
        self._sync = synchroniser(models.device)

    @property
    def environment(self) -> Mapping[str, Any]:
        """What it runs on and with, for records."""
        return self._environment

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
        if self.models.device.type == "cpu":
            return {"rss": self.budget.peak_bytes()}
        return {"allocated": self.budget.peak_allocated_bytes(), "reserved": self.budget.peak_bytes()}

    def stage_memory(self) -> StageMemory:
        """What reads memory where each stage of the runs inside it ends."""
        return StageMemory(self.models.device, self.budget, lambda: self.models.weights_bytes)

    def _measured(self, times: Times) -> dict[str, Any]:
        """What every result says of its run: the times, and what it ran on and with."""
        return {
            "wall_s": times.wall_s,
            "stages_s": times.stages(),
            "details_s": times.details(),
            "environment": self.environment,
        }


@dataclass
class Loading:
    """Where models are loaded to, and once that is done the seconds it took."""

    device: torch.device
    beside: list[torch.device]
    seconds: float = 0.0


@contextmanager
def loading(device: str, beside: Iterable[str] = (), *, threads: int | None = None) -> Iterator[Loading]:
    """Inside, models are loaded to a device, and to those `beside` it; at the end all of them is there.

    Raises UsageError or MissingPrerequisite for a device that is none or not there.
    """
    start = time.perf_counter()
    if threads:
        torch.set_num_threads(threads)
    loads = Loading(resolve_device(device), [resolve_device(name) for name in beside])
    devices = loads.device, *loads.beside
    for each in devices:
        hold_precision(each)
    return_freed_memory()  # of what passes through, nothing is needed again
    yield loads
    keep_freed_memory(loads.device)
    if sync := synchroniser(*dict.fromkeys(devices)):
        sync()
    loads.seconds = time.perf_counter() - start


def read_back(networks: Networks, what: str) -> str:
    """The `device` or the `dtype` of all weights, as they have it."""
    values = {
        str(getattr(parameter, what)).removeprefix("torch.")
        for _, module in networks.modules()
        for parameter in module.parameters()
    }
    return ", ".join(sorted(values))
