"""The plan of a request: what will run, within what this machine and this model can do.

Nothing is changed silently: each difference between request and plan is an `Adjustment` with its reason,
a strict setup turns the first into an error, one without limits ignores what a card's tier allows (the
variant's own facts stay). Nothing is loaded and torch is not imported, so a plan can be printed before paying
for it.

    python -m acestep generate --example example_05.json --dry-run
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from acestep import components, fields, length, placement, repainting
from acestep.audio import recordings, writing
from acestep.diffusion.schedule import (
    BASE_STEPS,
    TURBO_SHIFTS,
    TURBO_STEPS,
    edited,
    nearest,
    schedule,
    start_at,
)
from acestep.effective_plan import EffectivePlan
from acestep.presets import PRESETS, requested, settled
from acestep.request import LONGEST_S, DescriptionParams, GenerationConfig, GenerationParams
from acestep.setup import Setup
from acestep.situations import Situation
from acestep.tasks import TASKS, Task, instruction
from acestep.text import audio_codes
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.weights.sources import text_tokenizer
from harness.adjustments import Adjustment, Adjustments
from harness.checks import within
from harness.errors import MissingPrerequisite

BASE_GUIDANCE = 7.0
CHUNK_RANGE_S = (0.01, LONGEST_S)


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

    params = length.resolved(useful, audio.source_s, setup, changes, length.unsaid_s(config, setup))
    params = length.faded(params, changes)
    if task.region and not situation.painted_whole:
        params = repainting.resolved(params)
        wanted += [name for name in repainting.FIELDS if name not in wanted]
    params = _variant(params, setup, changes)
    times, edits = _times(params, setup)

    plan = EffectivePlan(
        setup=setup,
        params=params,
        config=files,
        task=task,
        instruction=_instruction(params),
        times=times,
        lm_metadata=setup.lm is not None and params.plans_metadata,
        lm_codes=params.plans_codes,
        source_s=audio.source_s,
        text_duration_s=length.text_s(params, requested_s, setup),
        adjustments=(),
        requested=tuple(name for name in wanted if name not in idle),
        edits=edits,
    )
    _places(setup, plan.components, changes)
    _texts(plan, changes)
    notes = (*setup.notes, *audio.notes, *_notes(plan, named=requested_s is not None))
    return replace(plan, adjustments=tuple(changes), notes=notes)


def streamed(plan: EffectivePlan, chunk_s: float) -> EffectivePlan:
    """The plan whose audio is handed out while it is decoded, `chunk_s` seconds at a time.

    What needs all of it at once is left out. Raises UsageError for that when the setup is strict, and for
    chunks that are too short or too long.
    """
    within("chunk_s", chunk_s, *CHUNK_RANGE_S)
    if not plan.params.enable_normalization:
        return plan
    changes = Adjustments(plan.setup.strict)
    changes.note("enable_normalization", True, False, "needs the peak of the whole audio, and it is streamed")
    unused = ("enable_normalization", "normalization_db")
    return replace(
        plan,
        params=replace(plan.params, **{name: fields.DEFAULTS[name] for name in unused}),
        requested=tuple(name for name in plan.requested if name not in unused),
        adjustments=(*plan.adjustments, *changes),
    )


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
    _places(setup, components.TEXT, changes)
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


def _situation(params: GenerationParams, task: Task, setup: Setup, source_s: float | None) -> Situation:
    """What says which fields have a use."""
    length_s = source_s
    start, end = params.repainting_start, params.repainting_end
    if source_s is not None and task.region:
        length_s = length.painted_s(params, source_s)
    elif params.audio_codes:
        length_s = len(audio_codes.parse(params.audio_codes)) / CODES_PER_SECOND
    return Situation(
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


def _places(setup: Setup, loaded: Collection[str], changes: Adjustments) -> None:
    """Tell of parts that have a device of their own, and of which nothing is loaded."""
    for place in setup.placed:
        if placement.components_of([place]).keys().isdisjoint(loaded):
            changes.note("place", str(place), None, "is of a part that this request does not load")


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


def _times(params: GenerationParams, setup: Setup) -> tuple[tuple[float, ...], int]:
    """Times of the sampler's steps, and how many of the steps edit."""
    times = schedule(
        params.inference_steps or TURBO_STEPS, params.shift, turbo=setup.turbo, timesteps=params.timesteps
    )
    times, edits = start_at(times, params.cover_noise_strength), 0
    if params.flow_edit_morph:
        times, edits = edited(times, params.flow_edit_n_min, params.flow_edit_n_max)
    return tuple(times), edits


def _instruction(params: GenerationParams) -> str:
    """What is made of codes, planned or given, is a cover of them."""
    from_codes = params.thinking or params.audio_codes
    task = "cover" if params.task_type == "text2music" and from_codes else params.task_type
    tracks = params.complete_track_classes if task == "complete" else (params.track_name,)
    return instruction(task, tuple(filter(None, tracks)))


def _notes(plan: EffectivePlan, *, named: bool) -> Iterator[str]:
    """What is done as it was asked for, and may not be what was meant. `named`: whether a duration was."""
    params, text_s = plan.params, plan.text_duration_s
    if plan.setup.turbo and not plan.task.turbo:
        yield f"task_type: no turbo model was trained for {params.task_type}; use base weights to hear it"
    if not plan.times:
        yield "flow_edit_n_min: 1 skips every step; the recording is encoded and decoded, and that is all"
    if params.audio_codes and not named and text_s and params.duration and text_s != params.duration:
        yield f"duration: none is named beside the audio codes; the text says {text_s:g} s, as upstream's"
