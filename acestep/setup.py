"""The setup of an engine before it is loaded: device, source of weights, DiT, language model, how they run.

Each choice is the caller's or that of the card's tier. What is asked for beyond the tier is an `Adjustment`
with its reason, and an error when `strict`. A model, a backend or a quantization that was named and is not
to be had here is an error in any case; where it is only a default, the setup goes without it and says so.
Weights that are missing or cut short are refused. Nothing is loaded and torch is not imported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from acestep import components, placement
from acestep.audio.tile_size import vae_overrides
from acestep.choices import NONE, Choices
from acestep.gpu_config import GUIDE, GPUConfig
from acestep.lm.choice import AUTO
from acestep.placement import Lookup, Place
from acestep.request import DURATION_RANGE_S
from acestep.weights.sources import check_source, choose_source
from harness.accelerators import Accelerator
from harness.adjustments import Adjustment
from harness.graphs import recorded

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
        devices = placement.where(device, place, accelerator, beside)
        card = devices.own.accelerator
        source, origin = choose_source(source, accelerator=card.device != "cpu")
        choices = Choices(devices, source, policy, limited=not no_limits, strict=strict)
        dtype = choices.dtype(dtype)
        dit, variant = choices.dit(dit)
        lm, no_lm = choices.lm(lm, lm_default, want_lm)
        scheme = choices.lm_quantization(lm_quantization, lm)
        lm_backend, reason = choices.lm_backend(lm_backend, lm, scheme)
        offload_to_cpu = choices.offload(offload_to_cpu, lm)
        check_source(source, dit, lm)
        if scheme and lm:
            choices.check_lm_quantization(scheme, lm, dtype)
        if offload_dit_to_cpu is None:
            offload_dit_to_cpu = choices.tier.offload_dit_to_cpu
        return cls(
            device=devices.own.device,
            dtype=dtype,
            source=source,
            source_origin=origin,
            dit=dit,
            turbo=variant.is_turbo,
            lm=lm,
            lm_backend=lm_backend,
            lm_backend_reason=reason,
            accelerator=card,
            limits=choices.limits,
            offload_to_cpu=offload_to_cpu,
            offload_dit_to_cpu=offload_dit_to_cpu,
            quantization=choices.quantization(quantization),
            compile=choices.compile(compile, dtype),
            graphs=recorded(graphs, devices.kinds),
            lm_quantization=scheme,
            adjustments=tuple(choices.changes),
            notes=tuple(choices.notes),
            strict=strict,
            no_limits=no_limits,
            no_lm=no_lm,
            policy=policy,
            placed=devices.elsewhere,
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
