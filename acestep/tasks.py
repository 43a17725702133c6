"""The six generation tasks of the DiT, as data.

Every task is the same network filling the same canvas; they differ in what the canvas holds before
(silence, codes, a recording), which part of it is to be filled, and the instruction that says so. The
instructions are part of the training data, so they are spelled exactly.

    task         canvas before               filled      instruction names
    text2music   silence, or planned codes   all         -
    cover        codes of the recording      all         -
    repaint      recording, region silenced  the region  -
    lego         recording                   the region  the track to add
    extract      recording                   all         the track to take out
    complete     recording                   all         the tracks to add
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TRACKS = (
    "woodwinds brass fx synth strings percussion keyboard guitar bass drums backing_vocals vocals"
).split()


@dataclass(frozen=True, slots=True)
class Task:
    """`source`: works on a recording. `region`: fills only a stretch of it. `turbo`: the distilled
    variants were trained for it; the others need base weights to sound right."""

    instruction: str
    source: bool = True
    region: bool = False
    turbo: bool = False
    track: str = ""  # the instruction when a track is named


TASKS = {
    "text2music": Task(
        "Fill the audio semantic mask based on the given conditions:", source=False, turbo=True
    ),
    "cover": Task("Generate audio semantic tokens based on the given conditions:", turbo=True),
    "repaint": Task("Repaint the mask area based on the given conditions:", region=True, turbo=True),
    "lego": Task(
        "Generate the track based on the audio context:",
        region=True,
        track="Generate the {} track based on the audio context:",
    ),
    "extract": Task(
        "Extract the track from the audio:",
        track="Extract the {} track from the audio:",
    ),
    "complete": Task(
        "Complete the input track:",
        track="Complete the input track with {}:",
    ),
}

SOURCE_TASKS = tuple(name for name, task in TASKS.items() if task.source)
REGION_TASKS = tuple(name for name, task in TASKS.items() if task.region)
CODE_TASKS = ("text2music", "cover")
# Fields of the language model: a recording needs no planning. Those of its first phase, and those of both.
THOUGHT_FIELDS = ("use_cot_caption", "use_cot_language", "use_constrained_decoding")
SAMPLING_FIELDS = (
    *("lm_temperature", "lm_cfg_scale", "lm_top_k", "lm_top_p", "lm_repetition_penalty"),
    "lm_negative_prompt",
)
# Fields of painting a region, and of leading one song to another.
REPAINT_FIELDS = (
    *("repaint_mode", "repaint_strength", "repaint_injection_ratio"),
    *("repaint_latent_crossfade_frames", "repaint_wav_crossfade_sec", "chunk_mask_mode"),
)
FLOW_EDIT_FIELDS = (
    *("flow_edit_morph", "flow_edit_source_caption", "flow_edit_source_lyrics"),
    *("flow_edit_n_min", "flow_edit_n_max", "flow_edit_n_avg"),
)
# The tasks that read a field of a request. What is not here is read by all: `use_cot_metas` switched off asks
# that nothing be planned, and in the others nothing is.
FIELD_TASKS: dict[str, Sequence[str]] = {
    "src_audio": SOURCE_TASKS,
    "audio_codes": CODE_TASKS,
    "audio_cover_strength": CODE_TASKS,
    "cover_noise_strength": CODE_TASKS,
    "track_name": ("lego", "extract"),
    "complete_track_classes": ("complete",),
    "repainting_start": REGION_TASKS,
    "repainting_end": REGION_TASKS,
    **dict.fromkeys(REPAINT_FIELDS, REGION_TASKS),
    **dict.fromkeys(FLOW_EDIT_FIELDS, ("cover",)),
    **dict.fromkeys(("thinking", *THOUGHT_FIELDS, *SAMPLING_FIELDS), ("text2music",)),
}

# What the language model puts into words, and the fields of a description that not all of these read.
TEXT_MODES = ("understand", "create", "format")
FIELD_TEXT_MODES = {
    "audio_codes": ("understand",),
    **dict.fromkeys(("query", "instrumental"), ("create",)),
    **dict.fromkeys(("caption", "lyrics"), ("format",)),
}


def takes(task: str, field: str) -> bool:
    """Whether `task` reads a field of a request."""
    return task in FIELD_TASKS.get(field, TASKS)


def describes(mode: str, field: str) -> bool:
    """Whether `mode` reads a field of a description."""
    return mode in FIELD_TEXT_MODES.get(field, TEXT_MODES)


def instruction(task: str, tracks: Sequence[str] = ()) -> str:
    """The instruction of `task`; `tracks` are what lego, extract and complete are about."""
    kind = TASKS[task]
    if not tracks or not kind.track:
        return kind.instruction
    return kind.track.format(" | ".join(tracks).upper())
