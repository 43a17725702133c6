"""ACE-Step's part in tier tests: a card's tier, a case as it runs there, and what is worth a note.

The methods of `harness.tiers.TierSubject`. No torch import here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from acestep import gpu_config, placement, resolver, tier_options, tier_patch
from acestep.choices import without_xl
from acestep.effective_plan import EffectivePlan
from acestep.gpu_config import GUIDE, GPUConfig
from acestep.lm.backends.registry import AUTO, BACKENDS
from acestep.presets import FIXED, PRESETS
from acestep.request import GenerationConfig, GenerationParams
from acestep.setup import NONE, Setup
from acestep.tier_options import DIT, DTYPE, LM, LM_QUANTIZATION, PLACE, POLICY, QUANTIZATION, REQUEST
from acestep.weights.layout import LM_PREFIX, LM_SIZES
from acestep.weights.sources import choose_dit, choose_source, dit_config
from harness.accelerators import Accelerator, snap
from harness.adjustments import Adjustment
from harness.dtypes import BF16
from harness.errors import BenchError, UsageError
from harness.tiers import Case, Choices, Option, Supported, Target, Tier, Usual

NO_OFFLOAD_FROM_GB = 8.0  # the bf16 DiT, VAE and text encoder are 6.2 GB: below, trying proves nothing
HOST = ("cpu", "virtual")  # devices that need no accelerator

WHOLE_TILE_FRAMES = 512  # the ladder's first tile: 20 s of audio
ON_CPU = 3  # the last level of the ladder
SHARED_FROM_GB, RESIDENT_FROM_GB, WHOLE_FROM_GB = 16, 20, 24  # where a tier's residency is its news

# Of a plan's own account: how it was asked for, and what follows from the card.
NOT_WHAT_RUNS = (
    *("request", "preset_values", "preset_unused", "adjustments", "notes"),
    *("card", "tier", "policy", "max_duration_s", "lm_backend_reason", "dtype"),
)


class TierCases:
    """See `harness.tiers.TierSubject`."""

    plan_type: type = EffectivePlan
    lm_backends: tuple[str, ...] = (AUTO, *BACKENDS)
    presets: tuple[str, ...] = tuple(PRESETS)
    options: tuple[Option, ...] = tier_options.OPTIONS
    simplified: str = "the DiT is eager and the LM runs through pt"

    def tested_gb(self, choices: Choices) -> tuple[float, ...]:
        return gpu_config.policy(_policy(choices)).tested_gb

    def usual(self, choices: Choices, preset: str | None) -> Usual:
        return tier_options.usual(choices, preset)

    def tier(self, case: Case) -> Tier:
        choices = dict(case.choices)
        row = gpu_config.tier_for(snap(case.tier_gb), _policy(choices))
        return Tier(
            name=row.tier,
            class_gb=row.class_gb,
            has_lm=bool(row.lm_sizes),
            max_duration_s=row.max_duration_s,
            max_duration_with_lm_s=row.max_duration_with_lm_s,
            max_batch=row.max_batch,
            max_batch_with_lm=row.max_batch_with_lm,
            promised=not {DTYPE, QUANTIZATION, LM_QUANTIZATION} & choices.keys()
            and (row.xl is not None or not _is_xl(case.source, dict(case.choices))),
        )

    def case_request(self, case: Case) -> tuple[GenerationParams, GenerationConfig]:
        """What each case asks for: `tier_options.asked`."""
        return tier_options.asked(case)[:2]

    def case_plan(self, case: Case, target: Target) -> EffectivePlan:
        """Without a language model where the tier has no room for one."""
        setup = _setup(case, target)
        params, config, left_out = tier_options.asked(case)
        if setup.lm is None:
            params = replace(params, thinking=False)
        plan = left_out.told_in(resolver.resolve(params, config, setup))
        refused = _over_the_limit(case, target)
        return replace(plan, adjustments=(refused, *plan.adjustments)) if refused else plan

    def not_tried(self, case: Case, target: Target) -> str | None:
        tier = gpu_config.config_for(target.accelerator, _policy(dict(case.choices)))
        if refused := _over_the_limit(case, target):
            return f"{refused.requested} {refused.reason}; --no-limits tries it"
        if case.variant == "no-offload" and tier.offload_to_cpu and tier.class_gb < NO_OFFLOAD_FROM_GB:
            return f"not tried below {NO_OFFLOAD_FROM_GB:g} GB"
        return (_setup(case, target).no_lm or None) if case.lm and tier.lm_sizes else None

    def identity(self, case: Case, plan: EffectivePlan) -> Mapping[str, Any]:
        """What runs. What goes without saying has no name, as before there was anything else: the preset
        `fixed`, the policy `guide`, bf16 or what torch chooses, a language model that is not quantized, a
        request that is no file's."""
        choices = dict(case.choices)
        left_out = (*NOT_WHAT_RUNS, *(("preset",) if plan.config.preset == FIXED else ()))
        left_out += () if plan.setup.lm_quantization else (LM_QUANTIZATION,)
        runs = {name: value for name, value in plan.as_dict().items() if name not in left_out}
        if plan.setup.dtype not in (AUTO, BF16):
            runs[DTYPE] = plan.setup.dtype
        if choices.get(POLICY, GUIDE) != GUIDE:
            runs[POLICY] = choices[POLICY]
        if REQUEST in choices:
            runs[REQUEST] = [asdict(part) for part in self.case_request(case)]
        return runs

    def patch(self, supported: Sequence[Supported]) -> str:
        """Of one policy, with each DiT that was asked for; what holds of XL is the XL column's alone."""
        changes = [(of, _is_xl(of.source, of.choices)) for of in supported]
        return tier_patch.patch(_policy(supported[0].choices), changes)

    def case_notes(self, record: Any) -> tuple[str, ...]:
        backend = record.environment.get("lm_backend") or record.lm_backend
        shared = record.lm and record.class_gb < SHARED_FROM_GB
        return (*_decoding(record), *((f"{backend} backend",) if shared else ()), *_residency(record))


def _policy(choices: Choices) -> str:
    return str(choices.get(POLICY, GUIDE))


def _is_xl(source: str | None, choices: Choices) -> bool:
    """Whether a case is of the XL family. A DiT that is not there is none: who sets it up refuses it."""
    named = choices.get(DIT)
    with suppress(BenchError):
        source = choose_source(source, accelerator=False)[0]
        return dit_config(source, choose_dit(source, str(named) if named else None)).is_xl
    return False


def _over_the_limit(case: Case, target: Target) -> Adjustment | None:
    """What of a case its tier has none of: it is not tried in place of it."""
    tier = gpu_config.config_for(target.accelerator, _policy(dict(case.choices)))
    if case.no_limits or tier.xl or not _is_xl(case.source, dict(case.choices)):
        return None
    return Adjustment(DIT, dict(case.choices).get(DIT, "the source's"), None, without_xl(tier))


def _setup(case: Case, target: Target) -> Setup:
    """The engine of the case: the tier's own with what it chooses, less what the variant takes away.

    What stands in for a card has our own backend for the language model, and compiles nothing: another
    backend and compiled kernels hide what they allocate from a virtual cap, and a prediction is of the same
    engine as such a run.
    """
    choices: dict[str, Any] = dict(case.choices)
    source, origin = choose_source(case.source, accelerator=target.device not in HOST)
    tier = gpu_config.config_for(target.accelerator, _policy(choices), xl=_is_xl(case.source, choices))
    offload = False if case.variant == "no-offload" else None
    quantization = choices.get(QUANTIZATION, AUTO) if case.variant == "default" else NONE
    quantized = tier.quantization is not None if quantization == AUTO else quantization != NONE
    setup = Setup.choose(
        source,
        device=target.device,
        dtype=choices.get(DTYPE, AUTO),
        dit=choices.get(DIT),
        lm=choices.get(LM, AUTO) if case.lm and tier.lm_sizes else None,
        want_lm=case.lm,
        lm_backend=_lm_backend(case, target, tier),
        offload_to_cpu=offload,
        offload_dit_to_cpu=offload,
        quantization=quantization if quantized else NONE,
        lm_quantization=_lm_quantization(case, tier),
        graphs=False if target.device in HOST else None,
        compile=False if target.stand_in or (case.skip_compile and not quantized) else None,
        no_limits=case.no_limits or _over_the_limit(case, target) is not None,
        policy=_policy(choices),
        accelerator=target.accelerator,
        place=choices.get(PLACE),
        beside=partial(_beside, target),
    )
    return replace(setup, source_origin=origin)


def _lm_quantization(case: Case, tier: GPUConfig) -> str:
    """Of the language model of a case that has one, unless its variant leaves quantization out."""
    has_lm = case.lm and tier.lm_sizes and case.variant == "default"
    return str(dict(case.choices).get(LM_QUANTIZATION, NONE)) if has_lm else NONE


def _beside(target: Target, device: str) -> Accelerator:
    """What is beside the case's card: another of its size, which has to be here if cases run on cards."""
    if not target.stand_in or placement.index_of(device) is None:
        here = placement.here(device)
        return replace(target.accelerator, name=here.name) if here.device == "cuda" else here
    return target.accelerator


def _lm_backend(case: Case, target: Target, tier: GPUConfig) -> str:
    if not target.stand_in:
        return case.lm_backend
    if case.lm and tier.lm_sizes and case.lm_backend not in (AUTO, "pt"):
        raise UsageError(
            f"lm_backend: a {target.stand_in} card does not see what {case.lm_backend} allocates; "
            "use pt, or a real card"
        )
    return "pt"


def _decoding(record: Any) -> tuple[str, ...]:
    """How far down its ladder the VAE was."""
    frames, tiles = record.counts.get("vae_tile_frames", 0), record.counts.get("vae_tiles", 0)
    if record.counts.get("vae_level") == ON_CPU:
        return ("VAE decoded on CPU",)
    tiled = tiles > record.effective.batch_size
    return (f"Tiled VAE chunk={frames}",) if tiled and frames < WHOLE_TILE_FRAMES and not record.lm else ()


def _residency(record: Any) -> tuple[str, ...]:
    if record.offload_to_cpu or record.offload_dit_to_cpu:
        return ("offload enabled",) if record.class_gb >= SHARED_FROM_GB else ()
    if record.class_gb >= WHOLE_FROM_GB and record.lm == LM_PREFIX + LM_SIZES[-1]:
        return ("full models on GPU",)
    return ("no offload",) if record.class_gb >= RESIDENT_FROM_GB else ()
