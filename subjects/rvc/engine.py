"""The engine: networks in memory, serving any number of requests.

    engine = Engine.load("synthetic-tiny", model="40k")
    result = engine.run(engine.resolve(request(None, audio="examples/audio/voice.ogg")))

Stages: `load_audio`, `pitch`, `features`, `text_encode`, `flow`, `generate`, `post`, `save`; with `other`
they are the wall.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from harness.device import (
    describe,
    hold_precision,
    keep_freed_memory,
    resolve_device,
    resolve_dtype,
    return_freed_memory,
    synchroniser,
)
from harness.memory import MemoryBudget
from harness.spans import record
from subjects.rvc import plan, weights
from subjects.rvc.convert import Conversion, ToHost, to_host
from subjects.rvc.plan import Plan
from subjects.rvc.request import Request
from subjects.rvc.result import Result
from subjects.rvc.setup import Setup
from subjects.rvc.weights import Networks, Source, open_source


class Engine:
    """Loaded networks on one device. Make one with `Engine.load`; it serves any number of requests."""

    def __init__(
        self,
        networks: Networks,
        setup: Setup,
        budget: MemoryBudget,
        environment: Mapping[str, Any],
        load_s: float,
        host: ToHost = to_host,
    ):
        self.networks = networks
        self.setup = setup
        self.budget = budget
        self.environment = environment
        self.load_s = load_s
        self._host = host
        self._sync = synchroniser(networks.device)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        **choices: Any,
    ) -> Engine:
        """Load what every request needs; `choices` are those of `Setup.choose`, which says what they mean.

        Raises UsageError, MissingPrerequisite or CheckpointError, each naming what and where.
        """
        return cls.from_setup(Setup.choose(source, **choices), threads=threads, budget=budget)

    @classmethod
    def from_setup(
        cls,
        setup: Setup,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        held: Source | None = None,
        device: str | None = None,
        host: ToHost = to_host,
    ) -> Engine:
        """Load what a setup says. Raises as `load` does. `held`: its weights, where they are open already;
        `device`: what stands in for its own, of which `host` brings values back."""
        start = time.perf_counter()
        if threads:
            torch.set_num_threads(threads)
        place = resolve_device(device or setup.device)
        hold_precision(place)
        budget = budget or MemoryBudget(place)
        return_freed_memory()  # while loading: of what passes through, nothing is needed again
        dtype = resolve_dtype(setup.dtype, place, "float16")
        networks = weights.load(held or open_source(setup), setup.configs, place, dtype)
        keep_freed_memory(place)
        if sync := synchroniser(place):
            sync()
        environment = _environment(setup, networks)
        return cls(networks, setup, budget, environment, time.perf_counter() - start, host)

    def resolve(self, request: Request) -> Plan:
        """What a request would run here."""
        return plan.resolve(request, self.setup)

    def run(self, plan: Plan, save_dir: Path | None = None) -> Result:
        """Convert as a plan of this setup says; write a file for each item under `save_dir` when it is given.

        Raises MissingPrerequisite for a recording or an index that cannot be read, and a place that cannot be
        written.
        """
        conversion = Conversion(self.networks, plan, self._host)
        self.budget.reset_peak()
        with torch.inference_mode(), record(self._sync) as times:
            audios = conversion.run(save_dir)
        return Result(
            audios=audios,
            waves=conversion.waves,
            f0=conversion.f0,
            wall_s=times.wall_s,
            stages_s=times.stages(),
            details_s=times.details(),
            counts=conversion.counts,
            plan=plan.as_dict(),
            environment=self.environment,
            peak_memory_bytes=self.budget.peak_bytes(),
            warnings=plan.warnings,
        )

    def peaks_bytes(self) -> dict[str, int]:
        """Peaks of memory since they were reset, from each source the device has."""
        if self.networks.device.type == "cpu":
            return {"rss": self.budget.peak_bytes()}
        return {"allocated": self.budget.peak_allocated_bytes(), "reserved": self.budget.peak_bytes()}


def _environment(setup: Setup, networks: Networks) -> dict[str, Any]:
    """What the engine runs on and with, for records: device and dtype as the weights have them."""
    tensors = [tensor for _, module in networks.modules() for tensor in module.parameters()]
    return {
        "device": ", ".join(sorted({str(tensor.device) for tensor in tensors})),
        "device_name": describe(networks.device),
        "dtype": ", ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors})),
        "source": setup.source,
        "source_origin": setup.source_origin,
        "model": setup.model,
        "voice": setup.voice,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }
