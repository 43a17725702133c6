"""The plan of a request: what will run, within what this machine and this model can do.

Nothing is changed silently: each difference between request and plan is an `Adjustment` with its reason,
a strict setup turns the first into an error, one without limits ignores what a card's tier allows (the
variant's own facts stay). Nothing is loaded and torch is not imported, so a plan can be printed before paying
for it.

    python -m acestep generate --example example_05.json --dry-run
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from acestep import components, fields, gpu_config, length, repainting
from acestep.audio import recordings, writing
from acestep.diffusion.schedule import (
    BASE_STEPS,
    TURBO_SHIFTS,
    TURBO_STEPS,
    edited,
    evaluations,
    nearest,
    schedule,
    start_at,
)
from acestep.presets import PRESETS, requested, settled
from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.tasks import TASKS, Task, instruction
from acestep.text import audio_codes
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.weights.sources import text_tokenizer
from harness.adjustments import Adjustment, Adjustments
from harness.errors import MissingPrerequisite

BASE_GUIDANCE = 7.0


@dataclass(frozen=True, slots=True)
class EffectivePlan:
    """What will run. `params` and `config` hold the effective values; nothing in them is open but
    metadata, and `duration` when the language model is to decide it. What has no use is at its default.

    `requested`: names of the fields that were asked for and have a use, and of those that a repaint's mode
    stands for.
    """

    setup: Setup
    params: GenerationParams
    config: GenerationConfig
    task: Task
    instruction: str  # the instruction the DiT is conditioned on
    times: tuple[float, ...]  # of the diffusion steps
    lm_metadata: bool  # the LM's first phase runs
    lm_codes: bool  # and its second
    source_s: float | None  # length of the recording, before cropping and out-painting
    text_duration_s: float | None  # what the text is told; None where the LM decides it
    adjustments: tuple[Adjustment, ...]
    notes: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    edits: int = 0  # how many of the steps edit a recording, the first

    @property
    def request(self) -> dict[str, Any]:
        """The effective values of the fields that were asked for, by themselves or by a mode."""
        values = {name: getattr(self.params, name, None) for name in self.requested}
        return values | {
            name: getattr(self.config, name) for name in self.requested if hasattr(self.config, name)
        }

    @property
    def preset_values(self) -> dict[str, Any]:
        """What the preset sets, where nothing else was asked for."""
        values = PRESETS[self.config.preset].values(turbo=self.setup.turbo)
        return {name: value for name, value in values.items() if name not in self.requested}

    @property
    def instructions(self) -> tuple[str, ...]:
        """The task's, and that of text to music where later steps leave the source."""
        later = (instruction("text2music"),) if self.params.audio_cover_strength < 1 else ()
        return (self.instruction, *later)

    @property
    def guided(self) -> bool:
        """Whether classifier-free guidance runs."""
        return (self.params.guidance_scale or 1.0) > 1.0

    @property
    def lm_guided(self) -> bool:
        """Whether classifier-free guidance runs in the language model: while it plans codes."""
        return self.lm_codes and self.params.lm_cfg_scale > 1.0

    @property
    def evaluations(self) -> tuple[float, ...]:
        """Times of the DiT's forward passes, each of which every micro-batch takes."""
        params = self.params
        if params.flow_edit_morph:
            passes = 2 * params.flow_edit_n_avg
            return (*(t for t in self.times[: self.edits] for _ in range(passes)), *self.times[self.edits :])
        return tuple(evaluations(self.times, params.infer_method, turbo=self.setup.turbo))

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the networks this request runs, in the order they are loaded."""
        params = self.params
        covers = params.task_type == "cover"
        needed = {
            components.VAE_ENCODER: bool(params.src_audio or params.reference_audio),
            components.TIMBRE: bool(params.reference_audio),
            components.TOKENIZER: bool(covers and params.src_audio),
            components.DETOKENIZER: bool(covers or params.audio_codes or self.lm_codes),
            components.LM: self.lm_metadata or self.lm_codes,
        }
        return tuple(name for name in components.COMPONENTS if needed.get(name, True))

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each adjustment and note."""
        return (*map(str, self.adjustments), *self.notes)

    def retaken(self, seed: int) -> EffectivePlan:
        """The plan with a retake seed that nobody named, which it says."""
        return replace(
            self,
            params=replace(self.params, retake_seed=seed),
            requested=(*self.requested, "retake_seed"),
            notes=(*self.notes, f"retake_seed: none was named; {seed} is drawn, which repeats this retake"),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, for `--dry-run` and for the record of a run."""
        params, config, setup = self.params, self.config, self.setup
        runs, of_preset = asdict(params) | asdict(config), self.preset_values
        return {
            "source": setup.source,
            "dit": setup.dit,
            "variant": "turbo" if setup.turbo else "base",
            "lm": setup.lm,
            "lm_backend": setup.lm_backend or None,
            "lm_backend_reason": setup.lm_backend_reason or None,
            "device": setup.accelerator.device,
            "card": gpu_config.describe(setup.accelerator) if setup.limits else setup.accelerator.name,
            "tier": setup.limits.tier if setup.limits else None,
            "offload_to_cpu": setup.offload_to_cpu,
            "offload_dit_to_cpu": setup.offload_dit_to_cpu,
            "quantization": setup.quantization,
            "compile": setup.compile,
            "components": list(self.components),
            "task_type": params.task_type,
            "instruction": self.instruction,
            "source_s": self.source_s,
            "duration_s": params.duration,
            "max_duration_s": setup.max_duration_s,
            "batch_size": config.batch_size,
            "lm_metadata": self.lm_metadata,
            "lm_codes": self.lm_codes,
            "steps": len(self.times),
            "times": list(self.times),
            "infer_method": params.infer_method,
            "guidance_scale": params.guidance_scale,
            "guidance_mode": params.guidance_mode if self.guided else None,
            "preset": config.preset,
            "preset_values": {name: value for name, value in of_preset.items() if runs[name] == value},
            "preset_unused": [name for name, value in of_preset.items() if runs[name] != value],
            "request": self.request,
            "adjustments": [asdict(a) for a in self.adjustments],
            "notes": list(self.notes),
        }


def resolve(params: GenerationParams, config: GenerationConfig, setup: Setup) -> EffectivePlan:
    """The plan of a request on a setup.

    Raises UsageError (also for the first adjustment when the setup is strict), and MissingPrerequisite when
    a recording cannot be read or planning is asked for without a language model.
    """
    changes = Adjustments(setup.strict)
    changes.extend(setup.adjustments)
    task, preset, requested_s = TASKS[params.task_type], PRESETS[config.preset], params.duration
    start = preset.of_variant(turbo=setup.turbo)
    params = settled(params, turbo=setup.turbo)
    wanted = [*requested(params, start), *requested(config, preset.config)]
    config = _batch(config, setup, changes)
    audio = recordings.survey(params, setup.max_duration_s, changes)
    codes = audio_codes.clamped(params.audio_codes, changes)
    params = replace(params, reference_audio=audio.references, audio_codes=codes)
    params = _planning(params, start, setup, changes)
    situation = _situation(params, task, setup, audio.source_s)
    useful, files = fields.without_the_useless(situation, changes, start), _files(config, changes)
    idle = requested(params, useful).keys() | requested(config, files).keys()
    params = length.resolved(useful, audio.source_s, setup, changes, preset.duration_s)
    params = length.faded(params, changes)
    if task.region and not situation.painted_whole:
        params = repainting.resolved(params)
        wanted += [name for name in repainting.FIELDS if name not in wanted]
    params = _variant(params, setup, changes)
    times = schedule(
        params.inference_steps or TURBO_STEPS, params.shift, turbo=setup.turbo, timesteps=params.timesteps
    )
    times, edits = start_at(times, params.cover_noise_strength), 0
    if params.flow_edit_morph:
        times, edits = edited(times, params.flow_edit_n_min, params.flow_edit_n_max)
    plan = EffectivePlan(
        setup=setup,
        params=params,
        config=files,
        task=task,
        instruction=_instruction(params),
        times=tuple(times),
        lm_metadata=setup.lm is not None and params.plans_metadata,
        lm_codes=params.plans_codes,
        source_s=audio.source_s,
        text_duration_s=length.text_s(params, requested_s, setup, preset.duration_s),
        adjustments=(),
        notes=(*setup.notes, *audio.notes, *_notes(params, task, setup)),
        requested=tuple(name for name in wanted if name not in idle),
        edits=edits,
    )
    _texts(plan, changes)
    return replace(plan, adjustments=tuple(changes))


def resolve_recording(path: str, setup: Setup) -> EffectivePlan:
    """The plan that encodes a recording to its audio codes: of as much of it as a cover may have."""
    return resolve(GenerationParams(task_type="cover", src_audio=path), GenerationConfig(), setup)


def resolve_description(
    params: DescriptionParams, mode: str, setup: Setup
) -> tuple[DescriptionParams, tuple[Adjustment, ...]]:
    """What of a description has a use in `mode`, of `tasks.TEXT_MODES`, and what is not done as it was asked.

    Raises UsageError for the first such when the setup is strict.
    """
    from acestep import cuts

    changes = Adjustments(setup.strict)
    params = fields.without_unused_words(params, mode, changes)
    params = replace(params, audio_codes=audio_codes.clamped(params.audio_codes, changes))
    for cut in cuts.description_cuts(params, lambda: text_tokenizer(setup.source)):
        cut.note(changes)
    return params, tuple(changes)


def _batch(config: GenerationConfig, setup: Setup, changes: Adjustments) -> GenerationConfig:
    size = int(min(config.batch_size, setup.max_batch))
    if size == config.batch_size:
        return config
    changes.note("batch_size", config.batch_size, size, f"is over the limit of {setup.whose()}")
    return replace(config, batch_size=size, seeds=config.seeds[:size] if config.seeds else None)


def _files(config: GenerationConfig, changes: Adjustments) -> GenerationConfig:
    """What of a run's files has a use. Refuses a format that cannot be written here."""
    if reason := writing.unavailable(config.audio_format):
        raise MissingPrerequisite(f"audio_format: {config.audio_format} {reason}")
    return fields.without_unused_settings(config, changes)


def _situation(
    params: GenerationParams, task: Task, setup: Setup, source_s: float | None
) -> fields.Situation:
    """What says which fields have a use."""
    length_s = source_s
    start, end = params.repainting_start, params.repainting_end
    if source_s is not None and task.region:
        length_s = length.painted_s(params, source_s)
    elif params.audio_codes:
        length_s = len(audio_codes.parse(params.audio_codes)) / CODES_PER_SECOND
    return fields.Situation(
        params,
        setup.turbo,
        lm=setup.lm is not None,
        length_s=length_s,
        painted_whole=source_s is not None
        and start <= 0
        and (end < 0 or end >= min(source_s, setup.max_duration_s)),
    )


def _planning(
    params: GenerationParams, start: GenerationParams, setup: Setup, changes: Adjustments
) -> GenerationParams:
    """Refuse to plan codes without a language model; where the preset would, go without and tell."""
    if not params.plans_codes or setup.lm:
        return params
    if not start.thinking:
        raise MissingPrerequisite(f"thinking: {setup.no_lm}; --no-thinking does without")
    changes.note("thinking", True, None, f"is the preset's, and there is nothing to plan with: {setup.no_lm}")
    return replace(params, thinking=False)


def _texts(plan: EffectivePlan, changes: Adjustments) -> None:
    """Tell of texts that are longer than what reads them."""
    from acestep import cuts  # with a parser of YAML, which --help can do without

    for cut in cuts.generation_cuts(
        plan.params,
        plan.text_duration_s,
        plan.instructions,
        plans_metadata=plan.lm_metadata,
        plans_codes=plan.lm_codes,
        tokenizer=lambda: text_tokenizer(plan.setup.source),
    ):
        cut.note(changes)


def _variant(params: GenerationParams, setup: Setup, changes: Adjustments) -> GenerationParams:
    """Steps and guidance: the variant's own where the request leaves them open."""
    if not setup.turbo:
        guidance = params.guidance_scale
        return replace(
            params,
            inference_steps=params.inference_steps or BASE_STEPS,
            guidance_scale=BASE_GUIDANCE if guidance is None else guidance,
        )
    times = [t for t in params.timesteps if t > 0]
    if times and times != (known := schedule(TURBO_STEPS, params.shift, turbo=True, timesteps=times)):
        changes.note("timesteps", times, known, "are not all times a turbo model knows")
    elif not times and params.inference_steps in (None, TURBO_STEPS) and params.shift not in TURBO_SHIFTS:
        shift = nearest(params.shift, TURBO_SHIFTS)
        changes.note("shift", params.shift, shift, "is none a turbo model was distilled at")
        params = replace(params, shift=shift)
    return replace(params, inference_steps=params.inference_steps or TURBO_STEPS, guidance_scale=1.0)


def _instruction(params: GenerationParams) -> str:
    """What is setup of codes, planned or given, is a cover of them."""
    from_codes = params.thinking or params.audio_codes
    task = "cover" if params.task_type == "text2music" and from_codes else params.task_type
    tracks = params.complete_track_classes if task == "complete" else (params.track_name,)
    return instruction(task, tuple(filter(None, tracks)))


def _notes(params: GenerationParams, task: Task, setup: Setup) -> tuple[str, ...]:
    if setup.turbo and not task.turbo:
        return (f"task_type: no turbo model was trained for {params.task_type}; use base weights to hear it",)
    return ()
