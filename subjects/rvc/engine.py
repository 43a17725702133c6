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

from harness.device import describe, resolve_dtype
from harness.engine import LoadedEngine, loaded, read_back
from harness.memory import MemoryBudget
from harness.spans import record
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
        held: Source | None = None,
        device: str | None = None,
        host: ToHost = to_host,
    ) -> Engine:
        """Load what a setup says. Raises as `load` does. `held`: its weights, where they are open already;
        `device`: what stands in for its own, of which `host` brings values back."""

        def load(place: torch.device) -> Networks:
            dtype = resolve_dtype(setup.dtype, place, "float16")
            return weights.load(held or open_source(setup), setup.configs, place, dtype)

        networks, budget, load_s = loaded(device or setup.device, load, threads=threads, budget=budget)
        return cls(networks, setup, budget, _environment(setup, networks), load_s, host=host)

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


def _environment(setup: Setup, networks: Networks) -> dict[str, Any]:
    """What the engine runs on and with, for records: device and dtype as the weights have them."""
    return {
        "device": read_back(networks, "device"),
        "device_name": describe(networks.device),
        "dtype": read_back(networks, "dtype"),
        "source": setup.source,
        "source_origin": setup.source_origin,
        "model": setup.model,
        "voice": setup.voice,
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
    }
