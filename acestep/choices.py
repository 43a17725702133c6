"""The choices of a setup one by one: each is the caller's, or the tier's of the card. No torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acestep import components
from acestep.gpu_config import GUIDE, GPUConfig, config_for
from acestep.lm.backends import registry as backends
from acestep.lm.choice import AUTO, Choice, LanguageModels
from acestep.placement import VIRTUAL, Devices, Place
from acestep.weights.layout import LM_PREFIX
from acestep.weights.sources import choose_dit, component_config, dit_config, smaller_dit
from harness import accelerators, dtypes
from harness.accelerators import Accelerator
from harness.adjustments import Adjustments
from harness.checks import one_of
from harness.compiling import unavailable as uncompiled
from harness.errors import MissingPrerequisite
from harness.quantization import LM_QUANTIZATIONS, QUANTIZATIONS, unfit
from harness.quantization import unavailable as unquantized

if TYPE_CHECKING:
    from acestep.models.configs import DiTConfig

NONE = "none"


class Choices:
    """Makes the choices of one setup: the DiT's first, on which the tier depends, then the language model's.

    `tier`: of the engine's card. `changes`, `notes`: what is told so far. Methods raise UsageError or
    MissingPrerequisite, naming what and where.
    """

    def __init__(self, devices: Devices, source: str, policy: str, *, limited: bool, strict: bool):
        """`limited`: whether what the tier allows holds."""
        self._devices, self._source, self._policy, self._limited = devices, source, policy, limited
        self._card = devices.own.accelerator
        capabilities = map(_capability, (devices.own, *devices.elsewhere))
        self._capability = min(filter(None, capabilities), default=None)
        self.tier = config_for(self._card, policy)
        self.changes, self.notes = Adjustments(strict), list[str]()

    @property
    def limits(self) -> GPUConfig | None:
        """The tier, unless nothing limits: on a plain CPU, or where nobody wants it to."""
        return self.tier if self._limited and not _is_plain_cpu(self._card) else None

    def dtype(self, choice: str) -> str:
        """A name of `harness.dtypes`, or auto."""
        capability = self._capability
        name = dtypes.chosen(choice, self._card.device, capability)
        if name == dtypes.BF16 and capability and capability < dtypes.AMPERE:
            of_card = "{}.{}".format(*capability)
            self.notes.append(
                f"dtype: bf16 is computed in fp32 on a card of compute capability {of_card}; fp16 is faster"
            )
        return name

    def dit(self, choice: str | None) -> tuple[str, DiTConfig]:
        """The folder of the DiT, of an XL one only where the tier has such, else of the 2B of its kind."""
        folder = choose_dit(self._source, choice)
        config = dit_config(self._source, folder)
        if config.is_xl and self.limits and not self.limits.xl:
            reason, smaller = without_xl(self.tier), smaller_dit(self._source, folder)
            if smaller is None:
                raise MissingPrerequisite(
                    f"dit: {folder} {reason}, and {self._source} has no 2B of its kind; add it, or give "
                    "--no-limits"
                )
            self.changes.note("dit", folder, smaller, reason)
            folder, config = smaller, dit_config(self._source, smaller)
        self.tier = config_for(self._card, self._policy, xl=config.is_xl)
        if self._policy != GUIDE and _is_plain_cpu(self._card):
            self.notes.append(
                f"policy: {self._policy} is of cards, and this CPU stands for none; nothing limits"
            )
        return folder, config

    def lm(self, choice: str | None, usual: str | None, want: bool) -> Choice:
        """The language model. `usual`: instead of the tier's default; `want`: also where it loads none."""
        card, tier = self._lm_card_and_tier()
        models = LanguageModels(self._source, None if _is_plain_cpu(card) else tier, limited=self._limited)
        if choice == AUTO:
            return models.default(usual, want, self.changes, self.notes)
        return models.named(choice, self.changes)

    def lm_quantization(self, choice: str, lm: str | None) -> str | None:
        """Of the language model's matrices; none without one."""
        one_of("lm_quantization", choice, (NONE, *LM_QUANTIZATIONS))
        if choice != NONE and lm is None:
            self.changes.note("lm_quantization", choice, None, "has no language model to apply to")
        return choice if choice != NONE and lm else None

    def lm_backend(self, choice: str, lm: str | None, quantization: str | None) -> tuple[str, str]:
        """What runs the language model, and why."""
        placed = self._devices.of(components.LM) is not self._devices.own
        card, tier = self._lm_card_and_tier()
        return backends.choose(choice, lm, card, tier, quantization, placed=placed)

    def offload(self, choice: bool | None, lm: str | None) -> bool:
        """Whether models wait on the host: as chosen, and where the tier does not hold them beside `lm`."""
        offload = self.tier.offload_to_cpu if choice is None else choice
        beside = self._card.device == "cuda" and self._devices.of(components.LM) is self._devices.own
        if not (lm and beside and lm.removeprefix(LM_PREFIX) in self.tier.lm_needs_offload):
            return offload
        if not offload:
            self.changes.note("offload_to_cpu", False, True, f"does not hold {lm} on {self.tier.name}")
        return True

    def check_lm_quantization(self, name: str, lm: str, dtype: str) -> None:
        """Raises MissingPrerequisite where `name` cannot run, or is not for the matrices of `lm`."""
        from harness.nn.config import Qwen3Config

        place = self._devices.of(components.LM)
        device = VIRTUAL if place.device.startswith(VIRTUAL) else _device_of(place)
        matrices = component_config(self._source, lm, Qwen3Config).matrices
        if reason := unquantized(name, device, place.accelerator.capability, dtype) or unfit(name, matrices):
            raise MissingPrerequisite(f"lm_quantization: {name} {reason}")

    def quantization(self, choice: str) -> str | None:
        """Of the DiT's matrices."""
        one_of("quantization", choice, (AUTO, NONE, *QUANTIZATIONS))
        name = self.tier.quantization if choice == AUTO else None if choice == NONE else choice
        place = self._devices.of(components.DIT)
        reason = unquantized(name, _device_of(place), place.accelerator.capability) if name else None
        if reason and choice != AUTO:
            raise MissingPrerequisite(f"quantization: {name} {reason}")
        if reason:
            self.notes.append(
                f"quantization: {name}, the default of {self.tier.name}, {reason}; using {NONE}"
            )
        return None if reason else name

    def compile(self, choice: bool | None, dtype: str) -> bool:
        """Whether anything is compiled."""
        wanted = self.tier.compile if choice is None else choice
        reasons = (
            uncompiled(kind, self._capability if kind == "cuda" else None, dtype)
            for kind in self._devices.kinds
        )
        reason = next(filter(None, reasons), None) if wanted else None
        if reason and choice:
            raise MissingPrerequisite(f"compile: {reason}")
        if reason:
            self.notes.append(f"compile: the default of {self.tier.name} {reason}; nothing is compiled")
        return wanted and not reason

    def _lm_card_and_tier(self) -> tuple[Accelerator, GPUConfig]:
        """The language model's: the engine's, unless it is on a card of its own."""
        place = self._devices.of(components.LM)
        if place is self._devices.own:
            return self._card, self.tier
        return place.accelerator, config_for(place.accelerator, self._policy)


def without_xl(tier: GPUConfig) -> str:
    """Why `tier` runs no XL DiT."""
    return f"is over the limit of {tier.name}, which has no XL DiT"


def _is_plain_cpu(card: Accelerator) -> bool:
    """Whether it is a CPU that stands for no card."""
    return card.device == "cpu" and not card.simulated


def _device_of(place: Place) -> str:
    """Its device by name; of what stands for a card, the kind of card."""
    kind = place.accelerator.device
    return place.device if place.device.startswith(kind) else kind


def _capability(place: Place) -> tuple[int, int] | None:
    return accelerators.capability_of(place.accelerator, place.device)
