"""What is tested: a case, and the case as it will run on this machine."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace

from acestep import gpu_config, resolver
from acestep.adjustments import Adjustment
from acestep.errors import UsageError
from acestep.gpu_config import GIB, Accelerator, GPUConfig, snap
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.setup import AUTO, Setup

DEFAULT_TIERS_GB = (4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0)

# A CUDA process holds about this much outside PyTorch's allocator (driver context, kernels, cuBLAS).
# The allocator's cap leaves it out and the reported peak adds it back, so that both speak of a card.
REFERENCE_CONTEXT_BYTES = GIB // 2

CAPTION = "Warm synth-pop with a steady beat, round bass, bright arpeggios and a clear lead voice"
LYRICS = """[Verse]
Streetlights hum a quiet tune
Paper boats beneath the moon

[Chorus]
Carry me home, carry me home"""


@dataclass(frozen=True, slots=True)
class Case:
    """One generation on a card of `tier_gb`. Raises UsageError for a value that cannot be run.

    `lm`: plan with the tier's default language model. `source`: where weights come from, as
    `Engine.load` takes it. `timeout_s`: wall clock of the whole process, loading included.
    """

    tier_gb: float
    lm: bool = False
    source: str | None = None
    device: str = "auto"
    duration_s: float = 30.0
    batch_size: int = 1
    steps: int = 8
    seed: int = 42
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        for name in ("tier_gb", "timeout_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{name}: {value!r} is not allowed; use a number above 0")
        if self.seed < 0:
            raise UsageError(f"seed: {self.seed!r} is not allowed; use a whole number from 0")
        self.request()  # the engine's own checks of the rest

    def request(self) -> tuple[GenerationParams, GenerationConfig]:
        """The request to the engine. All metadata is given, so the work depends on the case alone."""
        params = GenerationParams(
            caption=CAPTION,
            lyrics=LYRICS,
            duration=self.duration_s,
            bpm=120,
            keyscale="C major",
            timesignature="4",
            vocal_language="en",
            thinking=self.lm,
            inference_steps=self.steps,
        )
        seeds = item_seeds(self.seed, self.batch_size)
        return params, GenerationConfig(batch_size=self.batch_size, seeds=seeds)

    @property
    def key(self) -> str:
        """Name of the case's content: equal for cases that ask for the same run."""
        content = asdict(self) | {"tier_gb": float(self.tier_gb), "duration_s": float(self.duration_s)}
        del content["timeout_s"]  # how long one is willing to wait changes no result
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Plan:
    """A case resolved on this machine. `skip`: why it cannot be run, or None."""

    case: Case  # within the tier's limits
    config: GPUConfig
    device: str
    adjustments: tuple[Adjustment, ...]
    lm: str | None  # checkpoint name of the language model to load
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    cap_bytes: int
    device_bytes: int
    skip: str | None


def resolve(case: Case) -> Plan:
    """Find the device, the tier and the cap. MAX_CUDA_VRAM is ignored: the case says the size.

    Raises MissingPrerequisite when the case names a device that is not here.
    """
    environ = {k: v for k, v in os.environ.items() if k != gpu_config.MAX_VRAM_VARIABLE}
    found = gpu_config.detect(case.device, environ)
    card = Accelerator(found.device, found.name, case.tier_gb, simulated=True)
    config = gpu_config.config_for(card)
    cap_bytes = int(case.tier_gb * GIB) - (REFERENCE_CONTEXT_BYTES if found.device == "cuda" else 0)
    skip = _why_not(case, config, found, cap_bytes)
    lm = AUTO if case.lm and config.lm_sizes else None
    setup = Setup.choose(case.source, lm=lm, want_lm=case.lm, accelerator=card)
    params, run = case.request()
    plan = resolver.resolve(replace(params, thinking=setup.lm is not None), run, setup)
    return Plan(
        case=replace(case, duration_s=plan.params.duration, batch_size=plan.config.batch_size),
        config=config,
        device=case.device if case.device.startswith("cuda") else found.device,
        adjustments=plan.adjustments,
        lm=setup.lm,
        offload_to_cpu=setup.offload_to_cpu,
        offload_dit_to_cpu=setup.offload_dit_to_cpu,
        cap_bytes=cap_bytes,
        device_bytes=int(found.memory_gib * GIB),
        skip=skip,
    )


def _why_not(case: Case, config: GPUConfig, found: Accelerator, cap_bytes: int) -> str | None:
    if case.lm and not config.lm_sizes:
        return f"{config.tier} has no language model"
    if found.device == "cuda" and config.class_gb > snap(found.memory_gib):
        return f"exceeds device: {found.name} has {found.memory_gib:.1f} GiB"
    if cap_bytes <= 0:
        return f"a CUDA context alone needs {REFERENCE_CONTEXT_BYTES / GIB:g} GiB"
    return None
