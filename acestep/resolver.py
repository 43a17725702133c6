"""The one place where what is asked for meets what this machine and this model can do.

    setup    device, source of weights, DiT variant, language model, offload     once per engine
    resolve  a request on that setup: the plan that will run                     once per request

Nothing is changed silently: each difference between request and plan is an `Adjustment` with its reason,
`strict` turns the first into an error, `no_limits` ignores what a card's tier allows (the variant's own
facts stay). Nothing is loaded and torch is not imported, so a plan can be printed before paying for it.

    python -m acestep generate --example example_05.json --dry-run
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from acestep import audio_codes, audio_file, gpu_config
from acestep.adjustments import Adjustment, Adjustments
from acestep.audio_codes import CODES_PER_SECOND
from acestep.errors import MissingPrerequisite, UsageError
from acestep.gpu_config import LM_PREFIX, Accelerator, GPUConfig
from acestep.memory import vae_overrides
from acestep.request import DURATION_RANGE_S, GenerationConfig, GenerationParams
from acestep.schedule import TURBO_SHIFTS, TURBO_STEPS, nearest, schedule
from acestep.sources import LMS, choose_dit, choose_source, dit_config
from acestep.tasks import TASKS, Task, instruction

AUTO = "auto"
DEFAULT_DURATION_S = 30.0  # when nobody says: what the caption prompt says then, too
BASE_STEPS = 50
BASE_GUIDANCE = 7.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What is loaded, and where. `limits`: of the card's tier, None where nothing limits (a plain CPU)."""

    source: str
    source_origin: str
    dit: str
    turbo: bool
    lm: str | None
    accelerator: Accelerator
    limits: GPUConfig | None
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    adjustments: tuple[Adjustment, ...] = ()

    @property
    def max_duration_s(self) -> float:
        """Seconds of audio per item."""
        if self.limits is None:
            return DURATION_RANGE_S[1]
        return self.limits.max_duration_with_lm_s if self.lm else self.limits.max_duration_s

    @property
    def max_batch(self) -> float:
        """Items per run."""
        if self.limits is None:
            return math.inf
        return self.limits.max_batch_with_lm if self.lm else self.limits.max_batch

    def whose(self) -> str:
        """Whose limits they are, for messages."""
        if self.limits is None:
            return "this engine"
        lm = "with" if self.lm else "without"
        return f"{self.limits.tier} ({self.limits.class_gb:g} GB class, {lm} LM)"


def setup(
    source: str | Path | None = None,
    *,
    device: str = AUTO,
    dit: str | None = None,
    lm: str | None = AUTO,
    want_lm: bool = False,
    offload_to_cpu: bool | None = None,
    offload_dit_to_cpu: bool | None = None,
    strict: bool = False,
    no_limits: bool = False,
    accelerator: Accelerator | None = None,
) -> Setup:
    """Decide everything about an engine that can be decided before loading it.

    `lm` "auto" is the tier's default where the tier loads one, or when `want_lm`; on a plain CPU the
    smallest. Offload flags left None are the tier's. `accelerator`: a card to simulate.

    Raises UsageError or MissingPrerequisite, naming what and where.
    """
    vae_overrides()  # a bad one is refused here, not after minutes of diffusion
    found = accelerator or gpu_config.detect(device)
    name, origin = choose_source(source, accelerator=found.device != "cpu")
    folder = choose_dit(name, dit)
    plain_cpu = found.device == "cpu" and not found.simulated
    tier = gpu_config.config_for(found)
    changes = Adjustments(strict)
    chosen = _choose_lm(lm, want_lm, None if plain_cpu else tier, no_limits, changes)
    offload = tier.offload_to_cpu if offload_to_cpu is None else offload_to_cpu
    if chosen and chosen.removeprefix(LM_PREFIX) in tier.lm_needs_offload and found.device == "cuda":
        if not offload:
            changes.note("offload_to_cpu", False, True, f"does not hold {chosen} on {tier.tier}")
        offload = True
    return Setup(
        source=name,
        source_origin=origin,
        dit=folder,
        turbo=dit_config(name, folder).is_turbo,
        lm=chosen,
        accelerator=found,
        limits=None if plain_cpu or no_limits else tier,
        offload_to_cpu=offload,
        offload_dit_to_cpu=tier.offload_dit_to_cpu if offload_dit_to_cpu is None else offload_dit_to_cpu,
        adjustments=tuple(changes),
    )


def _choose_lm(
    asked: str | None, want: bool, tier: GPUConfig | None, no_limits: bool, changes: Adjustments
) -> str | None:
    if asked is not None and asked not in (AUTO, *LMS):
        raise UsageError(f"lm: {asked!r} is not allowed; use one of {AUTO}, {', '.join(LMS)}, or none")
    if asked != AUTO:
        if asked is None or tier is None or no_limits or asked.removeprefix(LM_PREFIX) in tier.lm_sizes:
            return asked
        applied = LM_PREFIX + tier.lm_sizes[-1] if tier.lm_sizes else None
        changes.note("lm", asked, applied, f"is over the limit of {tier.tier}")
        return applied
    if tier is None:
        return LMS[0]
    return tier.default_lm_name if tier.load_lm or want else None


@dataclass(frozen=True, slots=True)
class EffectivePlan:
    """What will run. `params` and `config` hold the effective values; nothing in them is open but
    metadata, and `duration` when the language model is to decide it."""

    setup: Setup
    params: GenerationParams
    config: GenerationConfig
    task: Task
    sentence: str  # the instruction the DiT is conditioned on
    times: tuple[float, ...]  # of the diffusion steps
    lm_metadata: bool  # the LM's first phase runs
    lm_codes: bool  # and its second
    source_s: float | None  # length of the recording, before cropping and out-painting
    adjustments: tuple[Adjustment, ...]
    notes: tuple[str, ...] = ()

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs."""
        return (self.params.guidance_scale or 1.0) > 1.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each adjustment and note."""
        return (*map(str, self.adjustments), *self.notes)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `--dry-run` and for the record of a run."""
        params, config, made = self.params, self.config, self.setup
        return {
            "source": made.source,
            "dit": made.dit,
            "variant": "turbo" if made.turbo else "base",
            "lm": made.lm,
            "device": made.accelerator.device,
            "card": gpu_config.describe(made.accelerator) if made.limits else made.accelerator.name,
            "tier": made.limits.tier if made.limits else None,
            "offload_to_cpu": made.offload_to_cpu,
            "offload_dit_to_cpu": made.offload_dit_to_cpu,
            "task_type": params.task_type,
            "instruction": self.sentence,
            "source_s": self.source_s,
            "duration_s": params.duration,
            "max_duration_s": made.max_duration_s,
            "batch_size": config.batch_size,
            "lm_metadata": self.lm_metadata,
            "lm_codes": self.lm_codes,
            "steps": len(self.times),
            "times": list(self.times),
            "infer_method": params.infer_method,
            "guidance_scale": params.guidance_scale,
            "guidance_mode": params.guidance_mode if self.guided else None,
            "adjustments": [asdict(a) for a in self.adjustments],
            "notes": list(self.notes),
        }


def resolve(params: GenerationParams, config: GenerationConfig, made: Setup) -> EffectivePlan:
    """The plan of a request on a setup.

    Raises UsageError (also for the first adjustment when `config.strict`), and MissingPrerequisite when
    a recording cannot be read or planning is asked for without a language model.
    """
    if config.no_limits:
        made = replace(made, limits=None)
    changes = Adjustments(config.strict)
    changes.extend(made.adjustments)
    task = TASKS[params.task_type]
    config = _batch(config, made, changes)
    for clip in params.reference_audio:
        audio_file.probe(clip, "reference_audio")
    params, source_s = _duration(params, task, made, changes)
    params = _planning(params, task, made, changes)
    params = _variant(params, made, changes)
    steps = params.inference_steps or TURBO_STEPS
    phases = made.lm is not None and not task.source and params.wants_metadata
    return EffectivePlan(
        setup=made,
        params=params,
        config=config,
        task=task,
        sentence=_sentence(params),
        times=tuple(schedule(steps, params.shift, turbo=made.turbo, timesteps=params.timesteps)),
        lm_metadata=phases,
        lm_codes=params.thinking,
        source_s=source_s,
        adjustments=tuple(changes),
        notes=_notes(params, task, made),
    )


def _batch(config: GenerationConfig, made: Setup, changes: Adjustments) -> GenerationConfig:
    size = int(min(config.batch_size, made.max_batch))
    if size == config.batch_size:
        return config
    changes.note("batch_size", config.batch_size, size, f"is over the limit of {made.whose()}")
    return replace(config, batch_size=size, seeds=config.seeds[:size] if config.seeds else None)


def _duration(
    params: GenerationParams, task: Task, made: Setup, changes: Adjustments
) -> tuple[GenerationParams, float | None]:
    """Length of the result: the recording's, the codes', or the request's; and that of the recording.

    Codes over the limit are cut here, a recording when it is read.
    """
    limit = made.max_duration_s
    source_s = None
    asked = params.duration
    if params.src_audio:
        source_s = asked = audio_file.probe(params.src_audio, "src_audio")
        if task.region:
            params, asked = _region(params, source_s, limit)
    elif codes := audio_codes.parse(params.audio_codes):
        asked = len(codes) / CODES_PER_SECOND
        params = replace(params, audio_codes=audio_codes.join(codes[: int(limit * CODES_PER_SECOND)]))
    elif asked is None and not (made.lm and params.wants_metadata):
        asked = min(DEFAULT_DURATION_S, limit)
    if asked is not None and asked > limit:
        changes.note("duration", asked, limit, f"is over the limit of {made.whose()}")
        asked = limit
    if asked is not None:
        asked = max(asked, DURATION_RANGE_S[0])
    return replace(params, duration=asked), source_s


def _region(params: GenerationParams, source_s: float, limit: float) -> tuple[GenerationParams, float]:
    """The region within `limit` seconds, and how long the painted whole would be without a limit."""
    start, end = params.repainting_start, params.repainting_end
    asked = max(source_s, end) - min(start, 0.0)
    kept_s = min(source_s, limit)
    if start >= kept_s:
        raise UsageError(f"repainting_start: {start:g} is past the end of the source, {kept_s:g} s")
    start = max(start, kept_s - limit)  # what is painted before the source begins must fit beside it
    end = min(end, limit + min(start, 0.0))
    return replace(params, repainting_start=start, repainting_end=end), asked


def _planning(params: GenerationParams, task: Task, made: Setup, changes: Adjustments) -> GenerationParams:
    """Whether the language model plans codes. It has nothing to add to a recording or to given codes."""
    if not params.thinking:
        return params
    given = "a recording" if task.source else "audio codes" if params.audio_codes else ""
    if given:
        changes.note("thinking", True, False, f"has no use where {given} is given")
        return replace(params, thinking=False)
    if made.lm is None:
        if made.limits and not made.limits.lm_sizes:
            raise MissingPrerequisite(f"thinking: {made.limits.tier} has room for no language model; drop it")
        raise MissingPrerequisite(f"thinking: no language model is loaded; load one, such as {LMS[0]}")
    return params


def _variant(params: GenerationParams, made: Setup, changes: Adjustments) -> GenerationParams:
    """Steps and guidance: the variant's own where the request leaves them open."""
    guidance = params.guidance_scale
    if not made.turbo:
        return replace(
            params,
            inference_steps=params.inference_steps or BASE_STEPS,
            guidance_scale=BASE_GUIDANCE if guidance is None else guidance,
        )
    if guidance is not None and guidance > 1:
        changes.note("guidance_scale", guidance, 1.0, "has no place in a turbo model: it is distilled in")
    given = [t for t in params.timesteps if t > 0]
    if given and given != (known := schedule(TURBO_STEPS, params.shift, turbo=True, timesteps=given)):
        changes.note("timesteps", given, known, "are not all times a turbo model knows")
    elif not given and params.inference_steps in (None, TURBO_STEPS) and params.shift not in TURBO_SHIFTS:
        shift = nearest(params.shift, TURBO_SHIFTS)
        changes.note("shift", params.shift, shift, "is none a turbo model was distilled at")
        params = replace(params, shift=shift)
    return replace(params, inference_steps=params.inference_steps or TURBO_STEPS, guidance_scale=1.0)


def _sentence(params: GenerationParams) -> str:
    """What is made of codes, planned or given, is a cover of them."""
    from_codes = params.thinking or params.audio_codes
    task = "cover" if params.task_type == "text2music" and from_codes else params.task_type
    tracks = params.complete_track_classes if task == "complete" else (params.track_name,)
    return instruction(task, tuple(filter(None, tracks)))


def _notes(params: GenerationParams, task: Task, made: Setup) -> tuple[str, ...]:
    if made.turbo and not task.turbo:
        return (f"task_type: no turbo model was trained for {params.task_type}; use base weights to hear it",)
    return ()
