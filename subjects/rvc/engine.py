"""The engine: networks in memory, serving any number of requests.

    engine = Engine.load("synthetic-tiny", model="40k")
    result = engine.run(engine.resolve(request(None, audio="examples/audio/voice.ogg")))

Stages: `load_audio`, `pitch`, `features`, `text_encode`, `flow`, `generate`, `post`, `save`; with `other`
they are the wall.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harness.device import resolve_dtype
from harness.engine import LoadedEngine, loading
from harness.memory import MemoryBudget, budget_of
from harness.spans import record
from subjects.loading import environment
from subjects.rvc import plan, weights
from subjects.rvc.convert import Conversion, ToHost, to_host
from subjects.rvc.plan import Plan
from subjects.rvc.request import Request
from subjects.rvc.result import Result
from subjects.rvc.setup import Setup
from subjects.rvc.weights import Networks, Source, open_source


class Engine(LoadedEngine[Networks, Setup]):
    """Loaded networks on one device. Make one with `Engine.load`; it serves any number of requests."""

    choose = Setup.choose

    def __init__(self, *parts: Any, host: ToHost = to_host):
        super().__init__(*parts)
        self._host = host

    @classmethod
    def from_setup(
        cls,
        setup: Setup,
        *,
        threads: int | None = None,
        budget: MemoryBudget | None = None,
        source: Source | None = None,
        device: str | None = None,
        host: ToHost = to_host,
    ) -> Engine:
        """Load what a setup says. Raises as `load` does. `source`: of its weights, where it is open already;
        `device`: what stands in for its own, of which `host` brings values back."""
        with loading(device or setup.device, threads=threads) as loads:
            budget = budget or budget_of(setup.accelerator, loads.device)
            dtype = resolve_dtype(setup.dtype, loads.device, "float16")
            networks = weights.load(source or open_source(setup), setup.configs, loads.device, dtype)
        described = environment(setup, networks) | {"voice": setup.voice}
        return cls(networks, setup, budget, described, loads.seconds, host=host)

    def resolve(self, request: Request) -> Plan:
        """What a request would run here."""
        return plan.resolve(request, self.setup)

    def run(self, plan: Plan, save_dir: Path | None = None) -> Result:
        """Convert as a plan of this setup says; write a file for each item under `save_dir` when it is given.

        Raises MissingPrerequisite for a recording or an index that cannot be read, and a place that cannot be
        written.
        """
        conversion = Conversion(self.models, plan, self._host)
        self.budget.reset_peak()
        with torch.inference_mode(), record(self._sync) as times:
            audios = conversion.run(save_dir)
        return Result(
            **self._measured(times),
            audios=audios,
            waves=conversion.waves,
            f0=conversion.f0,
            counts=conversion.counts,
            plan=plan.as_dict(),
            peak_memory_bytes=self.budget.peak_bytes(),
            warnings=plan.warnings,
        )
