"""Requests as upstream's interface, API and examples write them: other names, fields that have no place here.

a name in camelCase or of ALIASES     is read as ours
a switch of _switches                 becomes the field that does here what it asks for
a field of NO_COUNTERPART             is left out, and told; at a neutral value it asks for nothing
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from acestep.resolver import EffectivePlan
from acestep.tasks import TASKS, TRACKS, instruction
from harness.adjustments import Adjustments
from harness.checks import listed, shown
from harness.errors import UsageError

MAX_NAMED = 30  # of unknown names

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
}
OF_WORDS = {  # the language model's sampling, where nothing else is sampled
    "lm_temperature": "temperature",
    "lm_top_k": "top_k",
    "lm_top_p": "top_p",
    "lm_repetition_penalty": "repetition_penalty",
}
# Fields without a counterpart, and values at which they ask for nothing, as null and "" do.
NO_COUNTERPART: dict[str, tuple[Any, ...]] = {
    "instruction": tuple(instruction(task, track) for task in TASKS for track in ((), *zip(TRACKS))),
    **dict.fromkeys(
        ("model", "model_name", "dit_model", "lm_model_path", "lm_backend", "global_caption"), ()
    ),
    **dict.fromkeys(("sample_mode", "use_format", "is_format_caption", "use_cot_lyrics"), (False,)),
    **dict.fromkeys(("analysis_only", "full_analysis_only", "extract_codes_only"), (False,)),
    "eta": (0,),
    "momentum": (),
}
# These never ask for anything: what a language model once thought, how upstream's engine is driven, names,
# details of what another field switches on.
IDLE = frozenset(
    "cot_bpm cot_duration cot_keyscale cot_timesignature cot_vocal_language cot_caption cot_lyrics "
    "allow_lm_batch lm_batch_chunk_size use_tiled_decode constrained_decoding_debug song_name "
    "mp3_bitrate mp3_sample_rate".split()
)
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
    known = {*fields, *NO_COUNTERPART, *IDLE, *SWITCHES, QUERY}
    names = (name, snake, ALIASES.get(snake), OF_WORDS.get(snake))
    return next((ours for ours in names if ours in known), name)


def translate(data: Mapping[str, Any], fields: Collection[str], left_out: LeftOut) -> dict[str, Any]:
    """The values of a request that has `fields`, by our names. `left_out` learns of what has no counterpart.

    Raises UsageError for unknown names, all of them, and for what a strict request cannot have.
    """
    named = {field_name(name, fields): value for name, value in data.items()}
    music = QUERY not in fields
    without = {*NO_COUNTERPART, *IDLE} - {*fields}
    known = {*fields, *without, *(SWITCHES if music else ()), QUERY}
    if unknown := [name for name in data if field_name(name, fields) not in known]:
        names = f"{listed([*fields])} (generate --help-fields has all), and upstream's names of them"
        raise UsageError(f"{_unknown(unknown)}; allowed: {names}")
    values = {name: value for name, value in named.items() if name in fields}
    duration = values.get("duration")
    if duration == OPEN_DURATION:
        values["duration"] = None
    elif isinstance(duration, float) and duration.is_integer():
        values["duration"] = int(duration)  # 12.0, which a description has as a whole number
    for name in SWITCHES.keys() & named.keys():
        values |= _switched(name, named[name])
    _leave_out({name: value for name, value in named.items() if name in without}, left_out)
    if music and named.get(QUERY):
        caption = values.get("caption") or named[QUERY]
        reason = "is for the command create, which writes a caption from it"
        left_out.changes.note(QUERY, _plain(named[QUERY]), _plain(caption), reason)
        values["caption"] = caption
    return values


def _unknown(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"unknown field{'s' * (len(names) > 1)} {', '.join(map(shown, names[:MAX_NAMED]))}{more}"


def _switched(name: str, value: Any) -> dict[str, Any]:
    """What a switch of upstream's is here."""
    if value is None or value == "":
        return {}
    for setting, fields in SWITCHES[name].items():
        if value == setting and type(value) is type(setting):
            return fields
    allowed = " or ".join(json.dumps(setting) for setting in SWITCHES[name])
    raise UsageError(f"{name}: {shown(value)} is not allowed; use {allowed}")


def _leave_out(values: Mapping[str, Any], left_out: LeftOut) -> None:
    """Tell of fields that have no counterpart."""
    idle = []
    for name, value in values.items():
        if name in IDLE or value in (None, "", *NO_COUNTERPART[name]):
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
