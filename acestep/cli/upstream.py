"""Requests as upstream's interface, API and examples write them: other names, fields that have no place here.

a name in camelCase or of ALIASES     is read as ours
a switch of _switches                 becomes the field that does here what it asks for
a field of ABSENT                     is left out, and told; at a neutral value it asks for nothing
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from acestep.cli.seeds import one_seed, seed_of
from acestep.effective_plan import EffectivePlan
from acestep.tasks import TASKS, TRACKS, instruction
from harness.adjustments import Adjustments
from harness.checks import did_you_mean, listed, shown
from harness.errors import UsageError

MAX_NAMED, MAX_NAME_CHARS = 30, 60  # of unknown names; what of one is held against ours

ALIASES = {
    "think": "thinking",
    "language": "vocal_language",
    "prompt": "caption",
    "description": "query",
    "desc": "query",
    "sample_query": "query",
    "key": "keyscale",
    "key_scale": "keyscale",
    "time_signature": "timesignature",
    "audio_duration": "duration",
    "target_duration": "duration",
    "audio_code_string": "audio_codes",
    "reference_audio_path": "reference_audio",
    "ref_audio_path": "reference_audio",
    "src_audio_path": "src_audio",
    "source_audio_path": "src_audio",
    "ctx_audio_path": "src_audio",
    "track_classes": "complete_track_classes",
    "instruments": "complete_track_classes",
    "cover_strength": "audio_cover_strength",
    "repaint_crossfade_frames": "repaint_latent_crossfade_frames",
    "custom_timesteps": "timesteps",
    "retake_seed_value": "retake_seed",
    "constrained_decoding": "use_constrained_decoding",
    "constrained": "use_constrained_decoding",
    "cot_language": "use_cot_language",
    "parallel_thinking": "allow_lm_batch",
    "model_name": "model",
    "dit_model": "model",
}
OF_WORDS = {  # the language model's sampling, where nothing else is sampled
    "lm_temperature": "temperature",
    "lm_top_k": "top_k",
    "lm_top_p": "top_p",
    "lm_repetition_penalty": "repetition_penalty",
}


@dataclass(frozen=True, slots=True)
class Absent:
    """Why a field is not here. It asks for nothing where it is null, "" or `neutral`, and if `idle` ever."""

    reason: str
    neutral: tuple[Any, ...] = ()
    idle: bool = False


THOUGHT = Absent("what a language model has thought before; it thinks again", idle=True)
TOGETHER = Absent("items are planned together", idle=True)
CREATES, REWRITES = "the command `create`", "the command `format`"
DESCRIBES = "the commands `understand` and `codes`"
OF_FILES = Absent("of files of music", idle=True)  # which a description has none of
ABSENT = {
    "instruction": Absent(
        "follows from the task and its tracks",
        tuple(instruction(task, track) for task in TASKS for track in ((), *zip(TRACKS))),
    ),
    "global_caption": Absent("read by weights for stems alone, which are none of the published"),
    "model": Absent("the flag `--dit`"),
    "lm_model_path": Absent("the flag `--lm`"),
    "lm_backend": Absent("the flag `--lm-backend`"),
    "sample_mode": Absent(CREATES, (False,)),
    "use_format": Absent(REWRITES, (False,)),
    "is_format_caption": Absent(REWRITES, (False,)),
    **dict.fromkeys(
        ("analysis_only", "full_analysis_only", "extract_codes_only"), Absent(DESCRIBES, (False,))
    ),
    "use_cot_lyrics": Absent("reserved there, and read by nobody", (False,)),
    "eta": Absent("of a sampler that is not here", (0,)),
    "momentum": Absent("of APG; it is the published one"),
    "guidance_variant": Absent("later than 2026-06; see `guidance_mode`", ("apg_classic",)),
    "guidance_params": Absent("later than 2026-06; see `guidance_mode`"),
    **dict.fromkeys("cot_bpm cot_duration cot_keyscale cot_timesignature".split(), THOUGHT),
    **dict.fromkeys("cot_vocal_language cot_caption cot_lyrics".split(), THOUGHT),
    **dict.fromkeys(("allow_lm_batch", "lm_batch_chunk_size"), TOGETHER),
    "use_tiled_decode": Absent("tiles are exact, and as large as memory allows", idle=True),
    "constrained_decoding_debug": Absent("prints more there", idle=True),
    "song_name": Absent("a name of the interface's", idle=True),
    **dict.fromkeys(("mp3_bitrate", "mp3_sample_rate"), OF_FILES),
}
# What upstream's programs write where nobody has chosen: its modes of repainting decide, and so do ours.
OVERRULED = {"repaint_latent_crossfade_frames": 10, "repaint_wav_crossfade_sec": 0.0}
SWITCHES = {  # of upstream: a value, and what it is here
    "use_adg": {True: {"guidance_mode": "adg"}, False: {}},
    "sampler_mode": {"heun": {"infer_method": "heun"}, "euler": {}},
    "use_random_seed": {True: {"seed": -1, "seeds": None}, False: {}},
}
OPEN_DURATION = -1
QUERY = "query"  # music has none: it is what `create` writes a caption from
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass
class LeftOut:
    """What a request file says and nothing here does: `changes` where it asks for something, else `notes`."""

    changes: Adjustments
    notes: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each change and note."""
        return (*map(str, self.changes), *self.notes)

    def told_in(self, plan: EffectivePlan) -> EffectivePlan:
        """`plan` with what is left out before what it has changed itself."""
        adjustments, notes = (*self.changes, *plan.adjustments), (*self.notes, *plan.notes)
        return replace(plan, adjustments=adjustments, notes=notes)


def field_name(name: str, fields: Collection[str]) -> str:
    """Our name for `name` in a request that has `fields`, or `name` where there is none."""
    snake = CAMEL.sub("_", name).replace("-", "_").lower()
    known = {*fields, *ABSENT, *SWITCHES, QUERY}
    names = (name, snake, ALIASES.get(snake), OF_WORDS.get(snake))
    return next((ours for ours in names if ours in known), name)


def translate(data: Mapping[str, Any], fields: Collection[str], left_out: LeftOut) -> dict[str, Any]:
    """The values of a request that has `fields`, by our names. `left_out` learns of what has no counterpart.

    Raises UsageError for unknown names, all of them, and for what a strict request cannot have.
    """
    named = {field_name(name, fields): value for name, value in data.items()}
    music = QUERY not in fields
    absent = ABSENT.keys() - {*fields}
    known = {*fields, *absent, *(SWITCHES if music else ()), QUERY}
    if unknown := [name for name in data if field_name(name, fields) not in known]:
        names = f"{listed([*fields])} (generate --help-fields has all), and upstream's names of them"
        raise UsageError(f"{_unknown(unknown, fields)}; allowed: {names}")
    if music and isinstance(named.get("cot_caption"), bool):  # the server's name of the switch
        named.setdefault("use_cot_caption", named.pop("cot_caption"))
    values = {name: value for name, value in named.items() if name in fields}
    duration = values.get("duration")
    if duration == OPEN_DURATION:
        values["duration"] = None
    elif isinstance(duration, float) and duration.is_integer():
        values["duration"] = int(duration)  # 12.0, which a description has as a whole number
    for name in SWITCHES.keys() & named.keys():
        values |= _switched(name, named[name])
    _take_seeds(values, left_out, music=music)
    _leave_out({name: value for name, value in named.items() if name in absent}, left_out)
    if music and named.get(QUERY):
        caption = values.get("caption") or named[QUERY]
        reason = "is for the command create, which writes a caption from it"
        left_out.changes.note(QUERY, _plain(named[QUERY]), _plain(caption), reason)
        values["caption"] = caption
    return values


def _unknown(names: Sequence[str], fields: Collection[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    words = [f"{shown(name)}{_hint(name, fields)}" for name in names[:MAX_NAMED]]
    return f"unknown field{'s' * (len(names) > 1)} {', '.join(words)}{more}"


def _hint(name: str, fields: Collection[str]) -> str:
    question = did_you_mean(name[:MAX_NAME_CHARS], [*fields])
    return f" ({question})" if question else ""


def _switched(name: str, value: Any) -> dict[str, Any]:
    """What a switch of upstream's is here."""
    if value is None or value == "":
        return {}
    for setting, fields in SWITCHES[name].items():
        if value == setting and type(value) is type(setting):
            return fields
    allowed = " or ".join(json.dumps(setting) for setting in SWITCHES[name])
    raise UsageError(f"{name}: {shown(value)} is not allowed; use {allowed}")


def _take_seeds(values: dict[str, Any], left_out: LeftOut, *, music: bool) -> None:
    """Seeds in each form that upstream has: one or several, and the one of a retake."""
    seeds = values.get("seeds")
    if isinstance(seeds, int):
        values["seed"] = values.pop("seeds")
    elif isinstance(seeds, str) and isinstance(several := seed_of(seeds), list):
        values["seeds"] = several
    if "seed" in values:
        seed = seed_of(values["seed"]) if music else one_seed(values["seed"], left_out.notes)
        several = isinstance(values["seed"], str) and isinstance(seed, list)
        values |= {"seeds": seed, "seed": None} if several else {"seed": seed}
    if "retake_seed" in values:
        retake = seed_of(values["retake_seed"])
        if isinstance(retake, list) and retake:
            if len(retake) > 1:
                reason = "are several; here each item's follows from one"
                left_out.changes.note("retake_seed", _plain(values["retake_seed"]), _plain(retake[0]), reason)
            retake = seed_of(retake[0])
        values["retake_seed"] = retake


def leave_to_the_mode(values: dict[str, Any], left_out: LeftOut) -> None:
    """Drop from `values` of a file the crossfades that upstream's programs write and do not read."""
    for name in OVERRULED.keys() & values.keys():
        if values[name] == OVERRULED[name] and not isinstance(values[name], bool):
            left_out.notes.append(f"{name}: {values.pop(name)} is upstream's default; repaint_mode decides")


def _leave_out(values: Mapping[str, Any], left_out: LeftOut) -> None:
    """Tell of fields that have no counterpart."""
    idle = []
    for name, value in values.items():
        if ABSENT[name].idle or value in (None, "", *ABSENT[name].neutral):
            idle.append(name)
        else:
            left_out.changes.note(name, _plain(value), None, "has no counterpart here")
    if idle:
        have = "have" if len(idle) > 1 else "has"
        left_out.notes.append(
            f"{', '.join(idle)}: {have} no counterpart here, and nothing is asked for; left out"
        )


def _plain(value: Any) -> Any:
    """`value` as a record can hold it, whatever it is."""
    finite = isinstance(value, float) and math.isfinite(value)
    return value if finite or isinstance(value, (int, str)) else shown(value)
