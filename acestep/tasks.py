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


def instruction(task: str, tracks: Sequence[str] = ()) -> str:
    """The instruction of `task`; `tracks` are what lego, extract and complete are about."""
    kind = TASKS[task]
    if not tracks or not kind.track:
        return kind.instruction
    return kind.track.format(" | ".join(tracks).upper())
