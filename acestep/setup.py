"""The setup of an engine before it is loaded: device, source of weights, DiT, language model, how they run.

Each choice is the caller's or that of the card's tier. What is asked for beyond the tier is an `Adjustment`
with its reason, and an error when `strict`. A model, a backend or a quantization that was named and is not
to be had here is an error in any case; where it is only a default, the setup goes without it and says so.
Weights that are missing or cut short are refused. Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acestep import components, gpu_config, placement
from acestep.audio.tile_size import vae_overrides
from acestep.gpu_config import GUIDE, GPUConfig
from acestep.lm.backends import registry as backends
from acestep.lm.choice import AUTO, LanguageModels
from acestep.placement import Lookup, Place
from acestep.request import DURATION_RANGE_S
from acestep.weights.layout import LM_PREFIX
from acestep.weights.sources import (
    check_source,
    choose_dit,
    choose_source,
    component_config,
    dit_config,
    smaller_dit,
)
from harness import accelerators, dtypes
from harness.accelerators import Accelerator
from harness.adjustments import Adjustment, Adjustments
from harness.checks import one_of
from harness.compiling import unavailable as uncompiled
from harness.errors import MissingPrerequisite
from harness.graphs import unavailable as ungraphed
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS, unfit
from harness.quantization import unavailable as unquantized

NONE = "none"
STAND_IN = "virtual"  # a device of host memory that plays a card
# What `compile` compiles, by device. A CPU's VAE is all convolutions, which are oneDNN's either way.
COMPILED = {"cpu": (components.DIT,), "cuda": (components.DIT, components.LM, components.VAE)}


@dataclass(frozen=True, slots=True)
class Setup:
    """The choices an engine is loaded with: what is loaded, and where.

    `limits`: of the card's tier by `policy`, None where nothing limits (a plain CPU, or `no_limits`).
    `strict`: a limit that would change a request is an error.

    `no_lm`: why there is no language model, and what to do about it; empty with one. `lm_backend`: what runs
    it, and `lm_backend_reason` why; both empty without one.
    `quantization`, `lm_quantization`: of the DiT's matrices and of the language model's, or None. `placed`:
    parts that are on another device than `device`.
    """

    device: str  # cpu, mps, cuda, cuda:N: what the engine runs on
    dtype: str  # bf16, fp16 or fp32; auto where torch has to be asked what suits the device
    source: str
    source_origin: str
    dit: str
    turbo: bool
    lm: str | None
    lm_backend: str
    lm_backend_reason: str
    accelerator: Accelerator
    limits: GPUConfig | None
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    quantization: str | None
    compile: bool
    graphs: bool
    lm_quantization: str | None = None
    adjustments: tuple[Adjustment, ...] = ()
    notes: tuple[str, ...] = ()  # defaults of the tier that this machine cannot do
    strict: bool = False
    no_limits: bool = False
    no_lm: str = ""
    policy: str = GUIDE  # the table of tiers that is asked: `gpu_config.POLICIES`
    placed: tuple[Place, ...] = ()

    @classmethod
    def choose(
        cls,
        source: str | Path | None = None,
        *,
        device: str = AUTO,
        dtype: str = AUTO,
        dit: str | None = None,
        lm: str | None = AUTO,
        lm_default: str | None = None,
        want_lm: bool = False,
        lm_backend: str = AUTO,
        offload_to_cpu: bool | None = None,
        offload_dit_to_cpu: bool | None = None,
        quantization: str = AUTO,
        lm_quantization: str = NONE,
        compile: bool | None = None,
        graphs: bool | None = None,
        strict: bool = False,
        no_limits: bool = False,
        policy: str = GUIDE,
        accelerator: Accelerator | None = None,
        place: str | None = None,
        beside: Lookup | None = None,
    ) -> Setup:
        """Decide everything about an engine that can be decided before loading it.

        `lm` "auto" is the tier's default, or `lm_default`, where the tier loads one, or when `want_lm`; on a
        plain CPU the smallest. Where that is not there, it is the nearest that is, and a note says so.
        `dtype` is a name of `harness.dtypes`, or what suits the device ("auto"). `quantization` is a name,
        "none", or the tier's ("auto"); `lm_quantization` a name, or "none" as in every tier. Switches left
        None are the tier's; `graphs` the device's. `policy`: whose tiers they are. `accelerator`: a card to
        simulate. `place`: where parts are that are elsewhere than on `device` (`acestep.placement`); a
        language model elsewhere is chosen by the tier of its own card, and takes no room of the others.
        `beside`: what the cards of those are; by default those that are here, beside a simulated one its
        like.

        Raises UsageError or MissingPrerequisite, naming what and where.
        """
        vae_overrides()  # a bad one is refused here, not after minutes of diffusion
        card, places, device = placement.where(device, place, accelerator, beside)
        homes, own = {each.part: each for each in places}, Place("", device, card)
        cards = (card, *(each.accelerator for each in places))
        capability = min(
            filter(None, (_capability(card, device), *map(_capability_of, places))), default=None
        )
        name, origin = choose_source(source, accelerator=card.device != "cpu")
        plain_cpu = _is_plain_cpu(card)
        changes, notes = Adjustments(strict), []
        dtype = _choose_dtype(dtype, card, capability, notes)
        tier = gpu_config.config_for(card, policy)
        folder = _choose_dit(name, dit, None if plain_cpu or no_limits else tier, changes)
        variant = dit_config(name, folder)
        tier = gpu_config.config_for(card, policy, xl=variant.is_xl)
        if plain_cpu and policy != GUIDE:
            notes.append(f"policy: {policy} is of cards, and this CPU stands for none; nothing limits")
        lm_home = homes.get(components.LM, own)
        lm_card = lm_home.accelerator
        lm_tier = gpu_config.config_for(lm_card, policy) if components.LM in homes else tier
        models = LanguageModels(name, None if _is_plain_cpu(lm_card) else lm_tier, limited=not no_limits)
        chosen, no_lm = (
            models.default(lm_default, want_lm, changes, notes) if lm == AUTO else models.named(lm, changes)
        )
        scheme = _choose_lm_quantization(lm_quantization, chosen, changes)
        runs, reason = backends.choose(
            lm_backend, chosen, lm_card, lm_tier, scheme, placed=components.LM in homes
        )
        offload = tier.offload_to_cpu if offload_to_cpu is None else offload_to_cpu
        crowded = tier.lm_needs_offload if card.device == "cuda" and components.LM not in homes else ()
        if chosen and chosen.removeprefix(LM_PREFIX) in crowded:
            if not offload:
                changes.note("offload_to_cpu", False, True, f"does not hold {chosen} on {tier.name}")
            offload = True
        check_source(name, folder, chosen)
        if scheme and chosen:
            lm_device = STAND_IN if lm_home.device.startswith(STAND_IN) else _device_of(lm_home)
            _check_lm_quantization(scheme, name, chosen, lm_device, lm_card.capability, dtype)
        return cls(
            device=device,
            dtype=dtype,
            source=name,
            source_origin=origin,
            dit=folder,
            turbo=variant.is_turbo,
            lm=chosen,
            lm_backend=runs,
            lm_backend_reason=reason,
            accelerator=card,
            limits=None if plain_cpu or no_limits else tier,
            offload_to_cpu=offload,
            offload_dit_to_cpu=tier.offload_dit_to_cpu if offload_dit_to_cpu is None else offload_dit_to_cpu,
            quantization=_choose_quantization(quantization, homes.get(components.DIT, own), tier, notes),
            compile=_choose_compile(compile, cards, capability, dtype, tier, notes),
            graphs=_choose_graphs(graphs, cards),
            lm_quantization=scheme,
            adjustments=tuple(changes),
            notes=tuple(notes),
            strict=strict,
            no_limits=no_limits,
            no_lm=no_lm,
            policy=policy,
            placed=places,
        )

    @property
    def offloaded(self) -> tuple[str, ...]:
        """Names of the components that wait on the host until they are used; what is placed stays there."""
        elsewhere = placement.components_of(self.placed)
        names = components.offloaded(self.offload_to_cpu, self.offload_dit_to_cpu)
        return tuple(name for name in names if name not in elsewhere)

    @property
    def compiled(self) -> tuple[str, ...]:
        """Names of the components that run compiled; of the language model, where it is ours."""
        kinds = dict.fromkeys(placement.PARTS, self.accelerator.device)
        kinds |= {place.part: place.accelerator.device for place in self.placed}
        names = tuple(name for name in COMPILED["cuda"] if self.compile and name in COMPILED[kinds[name]])
        return tuple(name for name in names if name != components.LM or self.lm_backend == "pt")

    @property
    def lm_shares(self) -> bool:
        """Whether there is a language model, and it takes room of the card that the limits are of."""
        return self.lm is not None and all(place.part != components.LM for place in self.placed)

    @property
    def max_duration_s(self) -> float:
        """Seconds of audio per item."""
        if self.limits is None:
            return DURATION_RANGE_S[1]
        return self.limits.max_duration_with_lm_s if self.lm_shares else self.limits.max_duration_s

    @property
    def max_batch(self) -> float:
        """Items per run."""
        if self.limits is None:
            return math.inf
        return self.limits.max_batch_with_lm if self.lm_shares else self.limits.max_batch

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each adjustment and note."""
        return (*map(str, self.adjustments), *self.notes)

    def whose(self) -> str:
        """Whose limits they are, for messages."""
        if self.limits is None:
            return "this engine"
        lm = "with" if self.lm_shares else "without"
        return f"{self.limits.name} {lm} LM"


def without_xl(tier: GPUConfig) -> str:
    """Why `tier` runs no XL DiT."""
    return f"is over the limit of {tier.name}, which has no XL DiT"


def _choose_dit(source: str, choice: str | None, limits: GPUConfig | None, changes: Adjustments) -> str:
    """The folder of the DiT: an XL one where the tier has such, else the 2B of its kind."""
    folder = choose_dit(source, choice)
    if limits is None or limits.xl or not dit_config(source, folder).is_xl:
        return folder
    reason = without_xl(limits)
    smaller = smaller_dit(source, folder)
    if smaller is None:
        raise MissingPrerequisite(
            f"dit: {folder} {reason}, and {source} has no 2B of its kind; add it, or give --no-limits"
        )
    changes.note("dit", folder, smaller, reason)
    return smaller


def _choose_quantization(choice: str, home: Place, tier: GPUConfig, notes: list[str]) -> str | None:
    one_of("quantization", choice, (AUTO, NONE, *QUANTIZATIONS))
    name = tier.quantization if choice == AUTO else None if choice == NONE else choice
    reason = unquantized(name, _device_of(home), home.accelerator.capability) if name else None
    if reason and choice != AUTO:
        raise MissingPrerequisite(f"quantization: {name} {reason}")
    if reason:
        notes.append(f"quantization: {name}, the default of {tier.name}, {reason}; using {NONE}")
    return None if reason else name


def _choose_lm_quantization(choice: str, lm: str | None, changes: Adjustments) -> str | None:
    one_of("lm_quantization", choice, (NONE, *LM_QUANTIZATIONS))
    if choice == NONE:
        return None
    if lm is None:
        changes.note("lm_quantization", choice, None, "has no language model to apply to")
        return None
    return choice


def _check_lm_quantization(
    name: str, source: str, lm: str, device: str, capability: tuple[int, int] | None, dtype: str
) -> None:
    """Raises MissingPrerequisite where `name` cannot run, or is not for the matrices of `lm`."""
    from harness.nn.config import Qwen3Config

    matrices = component_config(source, lm, Qwen3Config).matrices
    if reason := unquantized(name, device, capability, dtype) or unfit(name, matrices):
        raise MissingPrerequisite(f"lm_quantization: {name} {reason}")


def _is_plain_cpu(card: Accelerator) -> bool:
    """Whether it is a CPU that stands for no card."""
    return card.device == "cpu" and not card.simulated


def _device_of(place: Place) -> str:
    """Its device by name; of what stands for a card, the kind of card."""
    kind = place.accelerator.device
    return place.device if place.device.startswith(kind) else kind


def _capability_of(place: Place) -> tuple[int, int] | None:
    return _capability(place.accelerator, place.device)


def _capability(card: Accelerator, device: str) -> tuple[int, int] | None:
    """Compute capability of the CUDA card that the engine runs on; None for another device."""
    if card.device != "cuda" or card.capability:
        return card.capability
    return accelerators.capability(int(device.partition(":")[2] or 0))


def _choose_dtype(
    choice: str, card: Accelerator, capability: tuple[int, int] | None, notes: list[str]
) -> str:
    name = dtypes.chosen(choice, card.device, capability)
    if name == dtypes.BF16 and capability and capability < dtypes.AMPERE:
        notes.append(
            "dtype: bf16 is computed in fp32 on a card of compute capability {}.{}; fp16 is faster".format(
                *capability
            )
        )
    return name


def _choose_compile(
    choice: bool | None,
    cards: Sequence[Accelerator],
    capability: tuple[int, int] | None,
    dtype: str,
    tier: GPUConfig,
    notes: list[str],
) -> bool:
    wanted = tier.compile if choice is None else choice
    kinds = dict.fromkeys(card.device for card in cards)
    reasons = (uncompiled(kind, capability if kind == "cuda" else None, dtype) for kind in kinds)
    reason = next(filter(None, reasons), None) if wanted else None
    if reason and choice:
        raise MissingPrerequisite(f"compile: {reason}")
    if reason:
        notes.append(f"compile: the default of {tier.name} {reason}; nothing is compiled")
    return wanted and not reason


def _choose_graphs(choice: bool | None, cards: Sequence[Accelerator]) -> bool:
    reasons = [ungraphed(card.device) for card in cards]
    reason = reasons[0] if all(reasons) else None
    if reason and choice:
        raise MissingPrerequisite(f"graphs: {reason}; leave it out, or choose --device cuda")
    return choice is not False and not reason
