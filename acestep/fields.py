"""Which field of a request has a use where: one table, which the resolver applies and `--help-fields` prints.

A field is asked for when it is not its preset's (`acestep.presets`). It then takes part in what runs, or it
is told why not: because no network of the task reads it (`tasks.FIELD_TASKS`), or because of what stands
beside it (`RULES`). Descriptions are held to the same (`tasks.FIELD_TEXT_MODES`, `TEXT_RULES`).

    python -m acestep generate --help-fields

No torch import here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from acestep.request import DescriptionParams, GenerationConfig, GenerationParams
from acestep.situations import RunSituation, Situation, TextSituation
from acestep.tasks import (
    FIELD_TASKS,
    FIELD_TEXT_MODES,
    FLOW_EDIT_FIELDS,
    REPAINT_FIELDS,
    SAMPLING_FIELDS,
    TASKS,
    TEXT_MODES,
    THOUGHT_FIELDS,
    describes,
    takes,
)
from harness.adjustments import Adjustments

DEFAULTS = {
    field.name: field.default
    for kind in (GenerationParams, GenerationConfig)
    for field in dataclasses.fields(kind)
}
# What a request that has them where no task reads them is refused for (`GenerationParams`), not just told.
REFUSED = ("src_audio", "audio_codes", "audio_cover_strength", "cover_noise_strength")
COVER_FIELDS = ("audio_cover_strength", "cover_noise_strength")
DCW_FIELDS = ("dcw_mode", "dcw_scaler", "dcw_high_scaler", "dcw_wavelet")
UNEDITED_FIELDS = (*COVER_FIELDS, "infer_method", "dcw_enabled", "retake_variance")
GUIDANCE_FIELDS = ("guidance_mode", "cfg_interval_start", "cfg_interval_end")


@dataclass(frozen=True, slots=True)
class Rule:
    """`fields` have no use where it `holds`: `reason` continues "FIELD: VALUE ...".

    `applied`: what is used instead; None leaves the field out. `turbo`: it holds for every turbo model.
    """

    fields: tuple[str, ...]
    reason: str
    holds: Callable[[Any], bool]  # of a situation
    applied: Callable[[Any], Any] = lambda _: None
    turbo: bool = False


# In this order: what an earlier rule leaves out is no longer there for a later one.
RULES = (
    Rule(
        ("duration",),
        "gives way to the length of the recording",
        lambda it: bool(it.params.src_audio) and it.length_s != it.params.duration,
        applied=lambda it: it.length_s,
    ),
    Rule(
        ("duration",),
        "gives way to the length of the audio codes, and is only told to the text encoder",
        lambda it: bool(it.params.audio_codes) and it.length_s != it.params.duration,
        applied=lambda it: it.length_s,
    ),
    Rule(("thinking",), "has no use beside audio_codes", lambda it: bool(it.params.audio_codes)),
    Rule(
        COVER_FIELDS,
        "has no use without a recording or audio codes",
        lambda it: not (it.params.src_audio or it.params.audio_codes or it.params.thinking),
    ),
    Rule(("flow_edit_morph",), "has no use without a recording", lambda it: not it.params.src_audio),
    Rule(
        tuple(name for name in FLOW_EDIT_FIELDS if name != "flow_edit_morph"),
        "has no use without flow_edit_morph",
        lambda it: not it.params.flow_edit_morph,
    ),
    Rule(UNEDITED_FIELDS, "has no use beside flow_edit_morph", lambda it: it.params.flow_edit_morph),
    Rule(
        ("guidance_mode",),
        "is not for flow_edit_morph",
        lambda it: it.params.flow_edit_morph and it.guided and it.params.guidance_mode == "adg",
        applied=lambda _: "apg",
    ),
    Rule(("flow_edit_n_min",), "is less than a step", lambda it: it.times == it.schedule),
    Rule(
        ("flow_edit_source_caption", "flow_edit_source_lyrics", "flow_edit_n_avg"),
        "has no use where no step lies between flow_edit_n_min and flow_edit_n_max",
        lambda it: not it.edits,
    ),
    Rule(
        ("cover_noise_strength",),
        "is less than half of the first step",
        lambda it: it.times == it.schedule,
    ),
    Rule(
        ("lyrics",),
        "has no use beside instrumental",
        lambda it: it.params.instrumental and bool(it.params.lyrics),
    ),
    Rule(
        REPAINT_FIELDS,
        "has no use where the whole recording is painted",
        lambda it: it.painted_whole,
    ),
    Rule(
        ("repaint_strength",),
        "has no use but in a balanced repaint",
        lambda it: it.params.repaint_mode != "balanced",
    ),
    Rule(
        ("repaint_mode", "repaint_strength"),
        "has no use where ratio and crossfades are given",
        lambda it: (
            None
            not in (
                it.params.repaint_injection_ratio,
                it.params.repaint_latent_crossfade_frames,
                it.params.repaint_wav_crossfade_sec,
            )
        ),
    ),
    Rule(("dcw_enabled",), "has no use where it moves nothing", lambda it: not it.moved_bands),
    Rule(
        DCW_FIELDS,
        "has no use without dcw_enabled",
        lambda it: not it.params.dcw_enabled,
    ),
    Rule(("dcw_high_scaler",), "is for the mode double", lambda it: it.params.dcw_mode != "double"),
    Rule(
        ("dcw_high_scaler",),
        "has no use where no step but the last begins below time 1",
        lambda it: it.params.dcw_high_scaler and "high" not in it.moved_bands,
    ),
    Rule(("dcw_wavelet",), "has no use in the mode pix", lambda it: it.params.dcw_mode == "pix"),
    Rule(("retake_seed",), "has no use at retake_variance 0", lambda it: not it.params.retake_variance),
    Rule(
        ("velocity_ema_factor",),
        "has no use where one velocity is followed",
        lambda it: len(it.evaluations) <= 1,
    ),
    Rule(
        ("normalization_db",),
        "has no use without enable_normalization",
        lambda it: not it.params.enable_normalization,
    ),
    Rule(("inference_steps", "shift"), "has no use beside timesteps", lambda it: bool(it.params.timesteps)),
    Rule(("shift",), "has no use in a schedule of one step", lambda it: len(it.schedule) == 1),
    Rule(("infer_method",), "has no use where one step runs", lambda it: len(it.evaluations) == 1),
    Rule(
        ("guidance_scale",),
        "has no place in a turbo model: it is distilled in",
        lambda it: it.turbo and it.params.guidance_scale != 1,
        applied=lambda _: 1.0,
        turbo=True,
    ),
    Rule(GUIDANCE_FIELDS, "has no use in a turbo model", lambda it: it.turbo, turbo=True),
    Rule(GUIDANCE_FIELDS, "has no use at guidance_scale 1", lambda it: not it.guided),
    Rule(
        ("guidance_scale", "guidance_mode"),
        "has no use where no step lies between cfg_interval_start and cfg_interval_end",
        lambda it: it.guided and it.never_guided,
    ),
    Rule(
        THOUGHT_FIELDS,
        "has no use where all metadata is given",
        lambda it: it.params.metadata_complete,
    ),
    Rule(THOUGHT_FIELDS, "has no use without use_cot_metas", lambda it: not it.params.use_cot_metas),
    Rule(
        SAMPLING_FIELDS,
        "has no use where the language model plans nothing",
        lambda it: not it.params.uses_lm,
    ),
    Rule((*THOUGHT_FIELDS, *SAMPLING_FIELDS), "has no use without a language model", lambda it: not it.lm),
    Rule(
        ("lm_cfg_scale", "lm_negative_prompt"),
        "has no use where no audio codes are planned: metadata is planned without guidance",
        lambda it: not it.params.plans_codes,
    ),
    Rule(
        ("use_cot_language",),
        "has no use beside vocal_language, which is kept",
        lambda it: it.params.vocal_language != DEFAULTS["vocal_language"],
    ),
    Rule(("lm_top_k", "lm_top_p"), "has no use at lm_temperature 0", lambda it: not it.params.lm_temperature),
    Rule(("lm_negative_prompt",), "has no use at lm_cfg_scale 1", lambda it: it.params.lm_cfg_scale == 1),
)

RUN_RULES = (
    Rule(
        ("mp3_bitrate", "mp3_sample_rate"),
        "has no use but in mp3",
        lambda it: it.params.audio_format != "mp3",
    ),
)

TEXT_RULES = (
    Rule(
        ("max_caption_tokens", "ignore_eos"),
        "has no use without use_constrained_decoding",
        lambda it: not it.params.use_constrained_decoding,
    ),
    Rule(("top_k", "top_p", "seed"), "has no use at temperature 0", lambda it: not it.params.temperature),
)


def without_the_useless(
    situation: Situation, changes: Adjustments, start: GenerationParams | None = None
) -> GenerationParams:
    """The request with every field that has no use at its default, each told that is not as in `start`:
    a preset asks for nothing where nothing can be done."""
    task = situation.params.task_type
    unread = _unread((name for name in FIELD_TASKS if not takes(task, name)), task)
    return _applied((*unread, *RULES), situation, changes, start)


def without_unused_settings(config: GenerationConfig, changes: Adjustments) -> GenerationConfig:
    """The settings of a run with every field that has no use at its default, each told."""
    return _applied(RUN_RULES, RunSituation(config), changes)


def without_unused_words(params: DescriptionParams, mode: str, changes: Adjustments) -> DescriptionParams:
    """The description with every field that has no use in `mode` at its default, each told."""
    unread = _unread((name for name in FIELD_TEXT_MODES if not describes(mode, name)), mode)
    return _applied((*unread, *TEXT_RULES), TextSituation(params), changes)


def _unread(names: Iterable[str], where: str) -> list[Rule]:
    return [Rule((name,), f"has no use in {where}", lambda _: True) for name in names]


def _applied(rules: Iterable[Rule], situation: Any, changes: Adjustments, start: Any = None) -> Any:
    """The `params` of a situation after the rules, of which each may change it for the next."""
    defaults = {field.name: field.default for field in dataclasses.fields(situation.params)}
    for rule in rules:
        for name in rule.fields:
            params = situation.params
            value = getattr(params, name)
            if value != defaults[name] and rule.holds(situation):
                if start is None or value != getattr(start, name):
                    changes.note(name, value, rule.applied(situation), rule.reason)
                params = dataclasses.replace(params, **{name: defaults[name]})
                situation = dataclasses.replace(situation, params=params)
    return situation.params


def table() -> str:
    """Every field against the tasks and the variants, and the rules beside it, as text."""
    lines = [_line("field", (*TASKS, "turbo", "base"))]
    for name in (field.name for field in dataclasses.fields(GenerationParams)):
        turbo = any(rule.turbo and name in rule.fields for rule in RULES)
        lines.append(_line(name, [*(_cell(name, task) for task in TASKS), "-" if turbo else "yes", "yes"]))
    lines += ["", "-: has no use there, which is told, and refused under --strict. Everywhere:", ""]
    lines += [f"  {', '.join(rule.fields)}: {rule.reason}" for rule in (*RULES, *RUN_RULES)]
    run = ", ".join(("seed", *(field.name for field in dataclasses.fields(GenerationConfig))))
    lines += [
        "",
        f"Of the run, in every task: {run}",
        "",
        "Of a description:",
        "",
        _line("field", TEXT_MODES),
    ]
    for name in (field.name for field in dataclasses.fields(DescriptionParams)):
        lines.append(_line(name, ["yes" if describes(mode, name) else "-" for mode in TEXT_MODES]))
    lines += ["", *(f"  {', '.join(rule.fields)}: {rule.reason}" for rule in TEXT_RULES)]
    return "\n".join(lines)


def _line(name: str, cells: Iterable[str]) -> str:
    width = max(map(len, DEFAULTS)) + 2
    return "".join((f"{name:<{width}}", *(f"{cell:<12}" for cell in cells))).rstrip()


def _cell(name: str, task: str) -> str:
    return "yes" if takes(task, name) else "refused" if name in REFUSED else "-"
