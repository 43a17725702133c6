"""Every field of upstream's requests, its default there, and what it is here: the table of docs/upstream.md.

    python -m acestep generate --help-upstream

The names and defaults are upstream's of 2026-06: `GenerationParams` and `GenerationConfig` of its Python API,
and what its server takes. What is said of them here is read from the code that reads them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from acestep.cli.examples import RUN_FIELDS
from acestep.cli.upstream import ABSENT, OVERRULED, SWITCHES, field_name
from acestep.defaults import DEFAULT_SEED
from acestep.presets import FIXED, PRESETS, UPSTREAM, Preset
from acestep.request import GenerationParams
from acestep.tasks import TASKS

INSTRUCTION = TASKS["text2music"].instruction
PARAMS: dict[str, Any] = {
    "task_type": "text2music",
    "instruction": INSTRUCTION,
    "reference_audio": None,
    "src_audio": None,
    "audio_codes": "",
    "caption": "",
    "global_caption": "",
    "lyrics": "",
    "instrumental": False,
    "vocal_language": "unknown",
    "bpm": None,
    "keyscale": "",
    "timesignature": "",
    "duration": -1.0,
    "enable_normalization": True,
    "normalization_db": -1.0,
    "fade_in_duration": 0.0,
    "fade_out_duration": 0.0,
    "latent_shift": 0.0,
    "latent_rescale": 1.0,
    "inference_steps": 8,
    "seed": -1,
    "guidance_scale": 7.0,
    "use_adg": False,
    "cfg_interval_start": 0.0,
    "cfg_interval_end": 1.0,
    "shift": 1.0,
    "infer_method": "ode",
    "sampler_mode": "euler",
    "velocity_norm_threshold": 0.0,
    "velocity_ema_factor": 0.0,
    "dcw_enabled": True,
    "dcw_mode": "double",
    "dcw_scaler": 0.05,
    "dcw_high_scaler": 0.02,
    "dcw_wavelet": "haar",
    "timesteps": None,
    "repainting_start": 0.0,
    "repainting_end": -1,
    "chunk_mask_mode": "auto",
    "repaint_latent_crossfade_frames": 10,
    "repaint_wav_crossfade_sec": 0.0,
    "repaint_mode": "balanced",
    "repaint_strength": 0.5,
    "retake_seed": None,
    "retake_variance": 0.0,
    "flow_edit_morph": False,
    "flow_edit_source_caption": "",
    "flow_edit_source_lyrics": "",
    "flow_edit_n_min": 0.0,
    "flow_edit_n_max": 1.0,
    "flow_edit_n_avg": 1,
    "audio_cover_strength": 1.0,
    "cover_noise_strength": 0.0,
    "thinking": True,
    "lm_temperature": 0.85,
    "lm_cfg_scale": 2.0,
    "lm_top_k": 0,
    "lm_top_p": 0.9,
    "lm_negative_prompt": "NO USER INPUT",
    "use_cot_metas": True,
    "use_cot_caption": True,
    "use_cot_lyrics": False,
    "use_cot_language": True,
    "use_constrained_decoding": True,
    "cot_bpm": None,
    "cot_keyscale": "",
    "cot_timesignature": "",
    "cot_duration": None,
    "cot_vocal_language": "unknown",
    "cot_caption": "",
    "cot_lyrics": "",
}
CONFIG: dict[str, Any] = {
    "batch_size": 2,
    "allow_lm_batch": False,
    "use_random_seed": True,
    "seeds": None,
    "lm_batch_chunk_size": 8,
    "constrained_decoding_debug": False,
    "audio_format": "flac",
    "mp3_bitrate": "128k",
    "mp3_sample_rate": 48000,
}
# What the server takes under another name, with another default, or alone.
SERVER: dict[str, Any] = {
    "prompt": "",
    "key_scale": "",
    "time_signature": "",
    "audio_duration": None,
    "audio_code_string": "",
    "reference_audio_path": None,
    "src_audio_path": None,
    "track_name": None,
    "track_classes": None,
    "constrained_decoding": True,
    "lm_repetition_penalty": 1.0,
    "thinking": False,
    "vocal_language": "en",
    "batch_size": None,
    "repainting_end": None,
    "shift": 3.0,
    "dcw_enabled": None,
    "audio_format": "mp3",
    "lm_cfg_scale": 2.5,
    "lm_top_k": None,
    "allow_lm_batch": True,
    "sample_mode": False,
    "sample_query": "",
    "use_format": False,
    "is_format_caption": False,
    "model": None,
    "lm_model_path": None,
    "lm_backend": "vllm",
    "use_tiled_decode": True,
    "analysis_only": False,
    "full_analysis_only": False,
    "extract_codes_only": False,
    "eta": None,
    "momentum": None,
    "guidance_variant": "apg_classic",
    "guidance_params": None,
}
# Where a field of the same name is not quite the same.
MEANINGS = {
    "duration": "-1 as there: the language model's, else the preset's length",
    "inference_steps": "null: turbo 8, base 50",
    "guidance_scale": "null: base 7.0; told on turbo, which has none",
    "seed": "of the first item, the others' follow; -1 draws them all",
    "seeds": "one per item",
    "shift": "a turbo model at 8 steps takes the nearest of 1, 2 and 3",
    "infer_method": 'and "heun", which is a `sampler_mode` there',
    "dcw_enabled": "null: on for turbo only",
    "retake_seed": "of the first item, the others' follow",
    "use_cot_language": "the language is used, not so there; a given one is kept",
}
HEAD = ("upstream's field", "default there", "its server's", "here", "default here", "preset upstream")


def table() -> str:
    """The fields as a table of Markdown, in upstream's order."""
    names = list(dict.fromkeys([*PARAMS, *CONFIG, *SERVER]))
    rows = [HEAD, *map(_row, names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "|".join("-" * (width + 2) for width in widths)
    return "\n".join((lines[0], f"|{rule}|", *lines[1:]))


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"| {padded} |"


def _row(name: str) -> tuple[str, ...]:
    there = PARAMS | CONFIG
    return (
        f"`{name}`",
        _value(there[name]) if name in there else "",
        _value(SERVER[name]) if name in SERVER else "",
        _here(name),
        *_defaults(ours(name)),
    )


def ours(name: str) -> str:
    """The field of a request file that upstream's `name` is read as."""
    return field_name(name, _fields())


def _fields() -> list[str]:
    return [*(field.name for field in dataclasses.fields(GenerationParams)), *RUN_FIELDS]


def _here(name: str) -> str:
    """What becomes of upstream's field here."""
    read_as = ours(name)
    if read_as in ABSENT and read_as not in _fields():
        return f"absent: {ABSENT[read_as].reason}"
    if read_as in SWITCHES:
        return "; ".join(_switch(read_as))
    if read_as == "query":
        return "a caption, told: it is what the command `create` reads"
    same = "same" if read_as == name else f"`{read_as}`"
    meaning = MEANINGS.get(name)
    if name in OVERRULED:
        meaning = f"{_value(OVERRULED[name])} leaves it to the mode, as it is left there"
    return f"{same}; {meaning}" if meaning else same


def _switch(name: str) -> Iterator[str]:
    for setting, fields in SWITCHES[name].items():
        means = ", ".join(f"`{field}` {_value(value)}" for field, value in fields.items())
        yield f"{_value(setting)}: {means or 'nothing'}"


def _defaults(name: str) -> tuple[str, str]:
    """Of the presets `fixed` and `upstream`."""
    return _default(PRESETS[FIXED], name), _default(PRESETS[UPSTREAM], name)


def _default(preset: Preset, name: str) -> str:
    if name == "seed":
        return _value(DEFAULT_SEED)
    record = preset.config if hasattr(preset.config, name) else preset.params
    return _value(getattr(record, name)) if hasattr(record, name) else ""


def _value(value: Any) -> str:
    if value == INSTRUCTION:
        return "text2music's"
    return json.dumps(value)
