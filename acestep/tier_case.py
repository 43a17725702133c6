"""ACE-Step's part in tier tests: a card's tier, a case as it runs there, and what is worth a note.

The methods of `harness.tiers.TierSubject`. No torch import here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from acestep import gpu_config, resolver
from acestep.effective_plan import EffectivePlan
from acestep.gpu_config import GPUConfig
from acestep.lm.backends.registry import AUTO, BACKENDS
from acestep.presets import FIXED, PRESETS
from acestep.request import GenerationConfig, GenerationParams, item_seeds
from acestep.setup import NONE, Setup
from acestep.weights.layout import LM_PREFIX, LM_SIZES
from acestep.weights.sources import choose_source
from harness.accelerators import snap
from harness.errors import UsageError
from harness.tiers import Case, Size, Target, Tier

NO_OFFLOAD_FROM_GB = 8.0  # the bf16 DiT, VAE and text encoder are 6.2 GB: below, trying proves nothing
HOST = ("cpu", "virtual")  # devices that need no accelerator

CAPTION = "Warm synth-pop with a steady beat, round bass, bright arpeggios and a clear lead voice"
LYRICS = """[Verse]
Streetlights hum a quiet tune
Paper boats beneath the moon

[Chorus]
Carry me home, carry me home"""

METADATA = {"bpm": 120, "keyscale": "C major", "timesignature": "4", "vocal_language": "en"}

WHOLE_TILE_FRAMES = 512  # the ladder's first tile: 20 s of audio
ON_CPU = 3  # the last level of the ladder
SHARED_FROM_GB, RESIDENT_FROM_GB, WHOLE_FROM_GB = 16, 20, 24  # where a tier's residency is its news

# Of a plan's own account: how it was asked for, and what follows from the card.
NOT_WHAT_RUNS = (
    *("request", "preset_values", "preset_unused", "adjustments", "notes"),
    *("card", "tier", "max_duration_s", "lm_backend_reason", "dtype"),
)


class TierCases:
    """See `harness.tiers.TierSubject`."""

    plan_type: type = EffectivePlan
    tested_gb: tuple[float, ...] = gpu_config.TESTED_GB
    lm_backends: tuple[str, ...] = (AUTO, *BACKENDS)
    presets: Mapping[str, Size] = MappingProxyType(
        {name: Size(preset.duration_s, preset.config.batch_size) for name, preset in PRESETS.items()}
    )
    simplified: str = "the DiT is eager and the LM runs through pt"

    def tier(self, size_gb: float) -> Tier:
        row = gpu_config.tier_for(snap(size_gb))
        return Tier(
            name=row.tier,
            class_gb=row.class_gb,
            has_lm=bool(row.lm_sizes),
            max_duration_s=row.max_duration_s,
            max_duration_with_lm_s=row.max_duration_with_lm_s,
            max_batch=row.max_batch,
            max_batch_with_lm=row.max_batch_with_lm,
        )

    def case_request(self, case: Case) -> tuple[GenerationParams, GenerationConfig]:
        """The length is the case's. By the preset `fixed` all metadata is given too, so that the work depends
        on the case alone; by another the language model thinks of it."""
        preset = PRESETS[case.preset]
        params = replace(
            preset.params,
            caption=CAPTION,
            lyrics=LYRICS,
            duration=case.duration_s,
            thinking=case.lm,
            inference_steps=case.steps,
            **(METADATA if case.preset == FIXED else {}),
        )
        seeds = item_seeds(case.seed, case.batch_size)
        return params, replace(preset.config, batch_size=case.batch_size, seeds=seeds)

    def case_plan(self, case: Case, target: Target) -> EffectivePlan:
        """Without a language model where the tier has no room for one."""
        setup = _setup(case, target)
        params, config = self.case_request(case)
        return resolver.resolve(replace(params, thinking=setup.lm is not None), config, setup)

    def not_tried(self, case: Case, target: Target) -> str | None:
        tier = gpu_config.config_for(target.accelerator)
        if case.variant == "no-offload" and tier.offload_to_cpu and tier.class_gb < NO_OFFLOAD_FROM_GB:
            return f"not tried below {NO_OFFLOAD_FROM_GB:g} GB"
        return (_setup(case, target).no_lm or None) if case.lm and tier.lm_sizes else None

    def identity(self, plan: EffectivePlan) -> Mapping[str, Any]:
        """What runs; the preset that goes without saying has the name it had before there were any."""
        left_out = (*NOT_WHAT_RUNS, *(("preset",) if plan.config.preset == FIXED else ()))
        return {name: value for name, value in plan.as_dict().items() if name not in left_out}

    def case_notes(self, record: Any) -> tuple[str, ...]:
        backend = record.environment.get("lm_backend") or record.lm_backend
        shared = record.lm and record.class_gb < SHARED_FROM_GB
        return (*_decoding(record), *((f"{backend} backend",) if shared else ()), *_residency(record))


def _setup(case: Case, target: Target) -> Setup:
    """The engine of the case: the tier's own, less what the variant takes away.

    What stands in for a card has our own backend for the language model, and compiles nothing: another
    backend and compiled kernels hide what they allocate from a virtual cap, and a prediction is of the same
    engine as such a run.
    """
    source, origin = choose_source(case.source, accelerator=target.device not in HOST)
    tier = gpu_config.config_for(target.accelerator)
    offload = False if case.variant == "no-offload" else None
    quantized = case.variant == "default" and tier.quantization is not None
    setup = Setup.choose(
        source,
        device=target.device,
        lm=AUTO if case.lm and tier.lm_sizes else None,
        want_lm=case.lm,
        lm_backend=_lm_backend(case, target, tier),
        offload_to_cpu=offload,
        offload_dit_to_cpu=offload,
        quantization=AUTO if quantized else NONE,
        graphs=False if target.device in HOST else None,
        compile=False if target.stand_in or (case.skip_compile and not quantized) else None,
        no_limits=case.no_limits,
        accelerator=target.accelerator,
    )
    return replace(setup, source_origin=origin)


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
