"""Where a request meets what this machine and this model can do: the plan that will run.

Nothing is changed silently: each difference between request and plan is an `Adjustment` with its reason,
`strict` turns the first into an error, `no_limits` ignores what a card's tier allows (the variant's own
facts stay). Nothing is loaded and torch is not imported, so a plan can be printed before paying for it.

    python -m acestep generate --example example_05.json --dry-run
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from acestep import gpu_config
from acestep.audio import files as audio_file
from acestep.diffusion.schedule import TURBO_SHIFTS, TURBO_STEPS, nearest, schedule
from acestep.request import DEFAULT_DURATION_S, DURATION_RANGE_S, GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.tasks import TASKS, Task, instruction
from acestep.text import audio_codes
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.weights.layout import LMS
from harness.adjustments import Adjustment, Adjustments
from harness.errors import MissingPrerequisite, UsageError

BASE_STEPS = 50
BASE_GUIDANCE = 7.0


@dataclass(frozen=True, slots=True)
class EffectivePlan:
    """What will run. `params` and `config` hold the effective values; nothing in them is open but
    metadata, and `duration` when the language model is to decide it."""

    setup: Setup
    params: GenerationParams
    config: GenerationConfig
    task: Task
    instruction: str  # the instruction the DiT is conditioned on
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
            "lm_backend": made.lm_backend or None,
            "lm_backend_reason": made.lm_backend_reason or None,
            "device": made.accelerator.device,
            "card": gpu_config.describe(made.accelerator) if made.limits else made.accelerator.name,
            "tier": made.limits.tier if made.limits else None,
            "offload_to_cpu": made.offload_to_cpu,
            "offload_dit_to_cpu": made.offload_dit_to_cpu,
            "quantization": made.quantization,
            "compile": made.compile,
            "task_type": params.task_type,
            "instruction": self.instruction,
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
        instruction=_sentence(params),
        times=tuple(schedule(steps, params.shift, turbo=made.turbo, timesteps=params.timesteps)),
        lm_metadata=phases,
        lm_codes=params.thinking,
        source_s=source_s,
        adjustments=tuple(changes),
        notes=(*made.notes, *_notes(params, task, made)),
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
