"""Cases of a tier test, and the plan by which a case runs on this machine.

A case runs on the accelerator that is here, or on a simulated card: the CPU under a virtual cap, which counts
the bytes a card would hold and keeps that card's own policy of offloading and quantization. A case that names
a card does not run at all: what it would cost there is predicted.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from harness import accelerators, cards, registry
from harness.accelerators import MAX_GB, MAX_VRAM_VARIABLE, Accelerator, snap
from harness.adjustments import Adjustment
from harness.cards import MIB, Card
from harness.checks import one_of
from harness.dtypes import AMPERE, BF16
from harness.errors import UsageError
from harness.memory import CONTEXT_BYTES, GIB, context_within
from harness.subject import DEFAULT_DURATION_S, DEFAULT_PRESET, DEFAULT_SEED
from harness.tiers import STEPS, Target, Tier, TierSubject, Value, tier_subject

Variant = Literal["default", "no-quant", "no-offload"]  # each takes away more than the one before
VARIANTS: tuple[Variant, ...] = get_args(Variant)

PREDICTED = "predicted"
CapKind = Literal["cuda", "mps", "host", "virtual", "predicted"]
DEVICE_OF: dict[str, str] = {"cuda": "cuda", "mps": "mps", "host": "cpu", "virtual": "cpu"}
TIMEOUT_S, MAX_TIMEOUT_S = 1800.0, 7 * 24 * 3600.0
CAPS = ("auto", *DEVICE_OF)
CAP_ON = {"cuda": "cuda", "mps": "mps", "cpu": "virtual"}  # what auto takes


@dataclass(frozen=True, slots=True)
class Case:
    """One generation on a card of `tier_gb`. Raises UsageError for a value that cannot be run.

    `lm`: plan with the tier's default language model. `source`: where weights come from, as the subject takes
    it. `timeout_s`: wall clock of the whole process, loading included. `variant`: what of the tier's defaults
    is left out. `cap`: how the memory is limited; `auto` is the device's own way, and virtual on a CPU.
    `no_limits`: run what the tier would clamp. `repeat` tells equal runs apart. `card`: the one to predict
    the case for instead of running it; its memory is the tier's. `lm_backend`: what runs the language model.
    `subject`: what is tested, by its name in `harness.registry`. `preset`: what of its requests holds where
    the case says nothing. `choices`: what else the case says of the subject, by the names of its options.
    """

    tier_gb: float
    lm: bool = False
    source: str | None = None
    device: str = "auto"
    duration_s: float = DEFAULT_DURATION_S
    batch_size: int = 1
    steps: int = STEPS
    seed: int = DEFAULT_SEED
    timeout_s: float = TIMEOUT_S
    variant: Variant = "default"
    cap: str = "auto"
    no_limits: bool = False
    skip_compile: bool = False  # where nothing is quantized
    repeat: int = 0
    card: Card | None = None
    lm_backend: str = "auto"
    subject: str = registry.DEFAULT
    preset: str = DEFAULT_PRESET
    choices: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        for name, most in {"tier_gb": MAX_GB, "timeout_s": MAX_TIMEOUT_S}.items():
            value = getattr(self, name)
            if not 0 < value <= most:
                raise UsageError(f"{name}: {value!r} is not allowed; use a number above 0 and up to {most:g}")
        if self.seed < 0:
            raise UsageError(f"seed: {self.seed!r} is not allowed; use a whole number from 0")
        one_of("variant", self.variant, VARIANTS)
        one_of("cap", self.cap, CAPS)
        subject = subject_of(self)
        one_of("lm_backend", self.lm_backend, subject.lm_backends)
        one_of("preset", self.preset, subject.presets)
        options = {option.name: option for option in subject.options}
        for name, value in self.choices:
            one_of("choices", name, [*options])
            if allowed := options[name].allowed:
                one_of(name, value, allowed)
        for name in ("device", "cap") if self.card else ():
            if getattr(self, name) != "auto":
                raise UsageError(
                    f"{name}: has no meaning for a case that is predicted; drop it, or run the case"
                )
        subject.case_request(self)  # the subject's own checks of the rest


def subject_of(case: Case) -> TierSubject:
    """What a case tests. Raises UsageError where there is no such subject."""
    return tier_subject(case.subject)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an engine runs a case, as far as the subject has such a choice."""

    dit: str = ""
    lm: str | None = None  # checkpoint name of the language model
    lm_backend: str = ""
    offload_to_cpu: bool = False
    offload_dit_to_cpu: bool = False
    quantization: str | None = None
    lm_quantization: str | None = None
    compile: bool = False
    graphs: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A case resolved on this machine. `skip`: why it cannot be run, or None.

    `engine_plan`: the subject's own, setup included, which is run as it is. `device`: what it runs on;
    "predicted" where it does not run. `context_bytes`: of the card, outside the cap and part of the peak.
    `device_bytes`: what the real device has. `card`: to predict for, of the tier's memory.
    """

    requested: Case
    engine_plan: Any
    tier: Tier
    device: str
    cap_kind: CapKind
    cap_bytes: int
    context_bytes: int
    device_bytes: int
    skip: str | None
    card: Card | None = None

    @property
    def effective(self) -> Case:
        """The case within the tier's limits."""
        run = self.engine_plan.as_dict()
        return replace(self.requested, duration_s=run["duration_s"], batch_size=run["batch_size"])

    @property
    def settings(self) -> Settings:
        run = self.engine_plan.as_dict()
        known = {field.name: run.get(field.name) for field in fields(Settings)}
        return Settings(**{name: value for name, value in known.items() if value is not None})

    @property
    def source(self) -> str:
        """Of the weights."""
        return self.engine_plan.setup.source

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        return self.engine_plan.adjustments

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the tier's defaults is not to be had here."""
        return tuple(self.engine_plan.as_dict().get("notes", ()))

    @property
    def beside(self) -> int:
        """How many cards like the case's there are beside the first, as parts of the subject are on them."""
        place = self.engine_plan.as_dict().get("place", {})
        return max((int(device.partition(":")[2] or 0) for device in place.values()), default=0)

    @property
    def key(self) -> str:
        """Name of what will run: equal for cases that differ only in how they ask for it."""
        case, plan = self.requested, self.engine_plan.as_dict()
        content = {
            "subject": case.subject,
            "runs": subject_of(case).identity(case, self.engine_plan),
            "tier_gb": float(case.tier_gb),
            "steps": case.steps,
            "seed": case.seed,
            "repeat": case.repeat,
            "device": self.device,
            "cap": (self.cap_kind, self.cap_bytes),
            "skip": self.skip,
            "card": self.card and _described(self.card, plan.get("dtype")),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _described(card: Card, dtype: str | None) -> dict[str, Any]:
    """The card in a key. Its rate in fp32, which cards once had none of, is news where products go at it."""
    description = asdict(card)
    if dtype == BF16 and card.capability >= AMPERE:
        del description["fp32_tflop_per_s"]
    return description


def resolve(case: Case) -> Plan:
    """Find the device, the tier and the cap. MAX_CUDA_VRAM is ignored: the case says the size.

    Raises MissingPrerequisite when the case names a device or a backend that is not here, UsageError for a
    cap that is another device's and a backend that a simulated card does not see.
    """
    subject = subject_of(case)
    accelerator = _detect(case)
    kind = _cap_kind(case, accelerator)
    target = _target(case, kind, accelerator)
    tier = subject.tier(case)
    context_bytes = _context_bytes(case, kind)
    skip = _why_not(case, tier, kind, accelerator, context_bytes) or subject.not_tried(case, target)
    card = case.card
    if card:
        card = replace(card, memory_gib=float(case.tier_gb), context_mib=context_bytes / MIB)
    return Plan(
        requested=case,
        engine_plan=subject.case_plan(case, target),
        tier=tier,
        device=PREDICTED if case.card else "cpu" if kind == "virtual" else target.device,
        cap_kind=kind,
        cap_bytes=int(case.tier_gb * GIB) - context_bytes,
        context_bytes=context_bytes,
        device_bytes=int(accelerator.memory_gib * GIB),
        skip=skip,
        card=card,
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
    environ = {k: v for k, v in os.environ.items() if k != MAX_VRAM_VARIABLE}
    return accelerators.detect(device, environ)


def _cap_kind(case: Case, accelerator: Accelerator) -> CapKind:
    if case.card:
        return PREDICTED
    return CAP_ON[accelerator.device] if case.cap == "auto" else case.cap  # type: ignore[return-value]


def _target(case: Case, kind: CapKind, accelerator: Accelerator) -> Target:
    """The card of the tier's size. Under a virtual cap the CPU plays a CUDA card, with the policy of one."""
    device = case.device if case.device.startswith("cuda") else accelerator.device
    card = replace(accelerator, memory_gib=case.tier_gb, simulated=True)
    if kind == "virtual":
        return Target(replace(card, device="cuda"), "virtual", stand_in=kind)
    return Target(card, device, stand_in=kind if kind == PREDICTED else None)


def _context_bytes(case: Case, kind: CapKind) -> int:
    """What a card's driver keeps for itself."""
    if kind in ("virtual", PREDICTED):
        return context_within(case.tier_gb, case.card.context_bytes if case.card else CONTEXT_BYTES)
    return CONTEXT_BYTES if kind == "cuda" else 0


def _why_not(
    case: Case, tier: Tier, kind: CapKind, accelerator: Accelerator, context_bytes: int
) -> str | None:
    """Why the card cannot run the case, or None."""
    if case.lm and not tier.has_lm:
        return f"the tier of {cards.of_size(tier.class_gb)} has no language model"
    if kind not in ("virtual", PREDICTED) and tier.class_gb > snap(accelerator.memory_gib):
        return f"exceeds device: {accelerator.name} has {accelerator.memory_gib:.1f} GiB"
    if case.tier_gb * GIB <= context_bytes:
        return f"a CUDA context alone needs {context_bytes / GIB:g} GiB"
    return None
