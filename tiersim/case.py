"""What is tested: a case, and the case as it will run on this machine.

A case runs on the accelerator that is here, or on a simulated card: the CPU under a virtual cap, which counts
the bytes a card would hold and keeps that card's own policy of offloading and quantization. A case that names
a card does not run at all: what it would cost there is predicted.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from acestep import gpu_config, resolver
from acestep.gpu_config import GPUConfig
from acestep.lm.backends.registry import BACKENDS
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.setup import AUTO, NONE, Setup
from acestep.weights.sources import choose_source
from harness import accelerators
from harness.accelerators import Accelerator, snap
from harness.adjustments import Adjustment
from harness.cards import MIB, Card
from harness.checks import one_of
from harness.errors import UsageError
from harness.memory import CONTEXT_BYTES, GIB

DEFAULT_TIERS_GB = (4.0, 6.0, 8.0, 12.0, 16.0, 20.0, 24.0)

Variant = Literal["default", "no-quant", "no-offload"]  # each takes away more than the one before
VARIANTS: tuple[Variant, ...] = get_args(Variant)
NO_OFFLOAD_FROM_GB = 8.0  # the bf16 DiT, VAE and text encoder are 6.2 GB: below, trying proves nothing

PREDICTED = "predicted"
CapKind = Literal["cuda", "mps", "host", "virtual", "predicted"]
DEVICE_OF: dict[str, str] = {"cuda": "cuda", "mps": "mps", "host": "cpu", "virtual": "cpu"}
CAPS = ("auto", *DEVICE_OF)
LM_BACKENDS = (AUTO, *BACKENDS)
CAP_ON = {"cuda": "cuda", "mps": "mps", "cpu": "virtual"}  # what auto takes

# What one run is, and not how it was asked for: the fields of a case and of its plan that a key is made of.
RUN_OF_CASE = ("batch_size", "steps", "seed", "repeat")
RUN_OF_PLAN = (
    *("device", "source", "dit", "lm", "lm_backend", "offload_to_cpu", "offload_dit_to_cpu", "quantization"),
    *("compile", "cap_kind", "cap_bytes", "skip"),
)

# The allocator's cap leaves the context out and the reported peak adds it back, so that both speak of a card.
CONTEXT_SHARE = 1 / 8  # of a card below 4 GB, which exists only as a scaled-down one

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
    `Engine.load` takes it. `timeout_s`: wall clock of the whole process, loading included. `variant`: what
    of the tier's defaults is left out. `cap`: how the memory is limited; `auto` is the device's own way, and
    virtual on a CPU. `no_limits`: run what the tier would clamp. `repeat` tells equal runs apart. `card`: the
    one to predict the case for instead of running it; its memory is the tier's. `lm_backend`: what runs the
    language model, as `Setup.choose` takes it.
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
    variant: Variant = "default"
    cap: str = "auto"
    no_limits: bool = False
    skip_compile: bool = False  # where nothing is quantized
    repeat: int = 0
    card: Card | None = None
    lm_backend: str = AUTO

    def __post_init__(self) -> None:
        for name in ("tier_gb", "timeout_s"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"{name}: {value!r} is not allowed; use a number above 0")
        if self.seed < 0:
            raise UsageError(f"seed: {self.seed!r} is not allowed; use a whole number from 0")
        one_of("variant", self.variant, VARIANTS)
        one_of("cap", self.cap, CAPS)
        one_of("lm_backend", self.lm_backend, LM_BACKENDS)
        for name in ("device", "cap") if self.card else ():
            if getattr(self, name) != "auto":
                raise UsageError(
                    f"{name}: has no meaning for a case that is predicted; drop it, or run the case"
                )
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


@dataclass(frozen=True, slots=True)
class Plan:
    """A case resolved on this machine. `skip`: why it cannot be run, or None.

    `device`: what it runs on; "predicted" where it does not run. `context_bytes`: of the card, outside the
    cap and part of the peak. `device_bytes`: what the real device has.
    """

    case: Case  # within the tier's limits
    config: GPUConfig
    device: str
    adjustments: tuple[Adjustment, ...]
    notes: tuple[str, ...]  # what of the tier's defaults is not to be had here
    source: str
    source_origin: str
    dit: str
    lm: str | None  # checkpoint name of the language model to load
    lm_backend: str
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    quantization: str | None
    compile: bool
    cap_kind: CapKind
    cap_bytes: int
    context_bytes: int
    device_bytes: int
    skip: str | None
    card: Card | None = None  # to predict for, of the tier's memory

    @property
    def key(self) -> str:
        """Name of what will run: equal for cases that differ only in how they ask for it."""
        content = {name: getattr(self.case, name) for name in RUN_OF_CASE}
        content |= {"tier_gb": float(self.case.tier_gb), "duration_s": float(self.case.duration_s)}
        content |= {name: getattr(self, name) for name in RUN_OF_PLAN}
        content |= {"card": asdict(self.card)} if self.card else {}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def resolve(case: Case) -> Plan:
    """Find the device, the tier and the cap. MAX_CUDA_VRAM is ignored: the case says the size.

    Raises MissingPrerequisite when the case names a device or a backend that is not here, UsageError for a
    cap that is another device's and a backend that a simulated card does not see.
    """
    found = _detect(case)
    kind = _cap_kind(case, found)
    # Under a virtual cap the CPU plays a CUDA card, with the policy of one.
    card = Accelerator(
        "cuda" if kind == "virtual" else found.device,
        found.name,
        case.tier_gb,
        simulated=True,
        capability=found.capability,
    )
    config = gpu_config.config_for(card)
    context_bytes = _context_bytes(case, kind)
    source, origin = choose_source(case.source, accelerator=found.device != "cpu")
    setup = _setup(case, config, kind, source, card)
    params, run = case.request()
    plan = resolver.resolve(replace(params, thinking=setup.lm is not None), run, setup)
    return Plan(
        case=replace(case, duration_s=plan.params.duration, batch_size=plan.config.batch_size),
        config=config,
        device=_device(case, found),
        adjustments=plan.adjustments,
        notes=plan.notes,
        source=setup.source,
        source_origin=origin,
        dit=setup.dit,
        lm=setup.lm,
        lm_backend=setup.lm_backend,
        offload_to_cpu=setup.offload_to_cpu,
        offload_dit_to_cpu=setup.offload_dit_to_cpu,
        quantization=setup.quantization,
        compile=setup.compile,
        cap_kind=kind,
        cap_bytes=int(case.tier_gb * GIB) - context_bytes,
        context_bytes=context_bytes,
        device_bytes=int(found.memory_gib * GIB),
        skip=_why_not(case, config, kind, found, context_bytes),
        card=case.card
        and replace(case.card, memory_gib=float(case.tier_gb), context_mib=context_bytes / MIB),
    )


def _detect(case: Case) -> Accelerator:
    if case.card:
        card = case.card
        return Accelerator("cuda", card.name, case.tier_gb, simulated=True, capability=card.capability)
    device = case.device
    if case.cap != "auto":
        needed = DEVICE_OF[case.cap]
        if device not in ("auto", needed) and not (needed == "cuda" and device.startswith("cuda:")):
            raise UsageError(f"cap: {case.cap} is for device {needed}, not {device}; drop one of them")
        device = needed if device == "auto" else device
    return here(device)


def here(device: str = "auto") -> Accelerator:
    """The accelerator of this machine, or its CPU, at its own size."""
    environ = {k: v for k, v in os.environ.items() if k != gpu_config.MAX_VRAM_VARIABLE}
    return accelerators.detect(device, environ)


def _device(case: Case, found: Accelerator) -> str:
    if case.card:
        return PREDICTED
    return case.device if case.device.startswith("cuda") else found.device


def _cap_kind(case: Case, found: Accelerator) -> CapKind:
    if case.card:
        return PREDICTED
    return CAP_ON[found.device] if case.cap == "auto" else case.cap  # type: ignore[return-value]


def _context_bytes(case: Case, kind: CapKind) -> int:
    """What a card's driver keeps for itself."""
    if kind in ("virtual", PREDICTED):
        of_card = case.card.context_bytes if case.card else CONTEXT_BYTES
        return min(of_card, int(case.tier_gb * GIB * CONTEXT_SHARE))
    return CONTEXT_BYTES if kind == "cuda" else 0


def _setup(case: Case, config: GPUConfig, kind: CapKind, source: str, card: Accelerator) -> Setup:
    """The engine of the case: the tier's own, less what the variant takes away.

    A CPU that plays a card has the CPU's backend for the language model, and compiles nothing: another
    backend and compiled kernels hide what they allocate from a virtual cap, and cannot be traced.
    """
    offload = False if case.variant == "no-offload" else None
    quantized = case.variant == "default" and config.quantization is not None
    stands_in = kind in ("virtual", PREDICTED)
    lm = AUTO if case.lm and config.lm_sizes else None
    if lm and stands_in and case.lm_backend not in (AUTO, "pt"):
        raise UsageError(
            f"lm_backend: a {kind} card does not see what {case.lm_backend} allocates; use pt, or a real card"
        )
    eager = stands_in or (case.skip_compile and not quantized)
    return Setup.choose(
        source,
        lm=lm,
        want_lm=case.lm,
        lm_backend="pt" if stands_in else case.lm_backend,
        offload_to_cpu=offload,
        offload_dit_to_cpu=offload,
        quantization=AUTO if quantized else NONE,
        compile=False if eager else None,
        no_limits=case.no_limits,
        accelerator=card,
    )


def _why_not(
    case: Case, config: GPUConfig, kind: CapKind, found: Accelerator, context_bytes: int
) -> str | None:
    if case.lm and not config.lm_sizes:
        return f"{config.tier} has no language model"
    if kind not in ("virtual", PREDICTED) and config.class_gb > snap(found.memory_gib):
        return f"exceeds device: {found.name} has {found.memory_gib:.1f} GiB"
    if case.tier_gb * GIB <= context_bytes:
        return f"a CUDA context alone needs {context_bytes / GIB:g} GiB"
    if case.variant == "no-offload" and config.offload_to_cpu and config.class_gb < NO_OFFLOAD_FROM_GB:
        return f"not tried below {NO_OFFLOAD_FROM_GB:g} GB"
    return None
