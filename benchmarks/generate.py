"""A whole generation, request to audio file, and where its time goes."""

from ._figures import _Stages, _Wall
from ._matrix import BATCHES, DURATIONS_S, PRESETS, SHORTEST_S, STAGES, STEPS, THINKING, cell


class TimeGenerate(_Wall):
    """Wall time of one request, the file written."""

    version = "2"
    kind = "generate"
    params = (DURATIONS_S, BATCHES, THINKING, STEPS)
    param_names = ("duration_s", "batch", "thinking", "steps")


class TimeGeneratePreset(_Wall):
    """Wall time of a request that leaves all but its length to a preset: upstream's defaults plan metadata,
    caption, language and codes, and write two items. How much is planned is the language model's."""

    version = "1"
    kind = "preset"
    params = (PRESETS[1:], SHORTEST_S)
    param_names = ("preset", "duration_s")


class TrackStages(_Stages):
    """Each stage of a generation of one item at 8 steps; they add up to its wall time."""

    version = "2"
    params = (STAGES, DURATIONS_S, THINKING)
    param_names = ("stage", "duration_s", "thinking")

    def cell(self, stage, duration_s, thinking):
        return cell("generate", duration_s=duration_s, batch=BATCHES[0], thinking=thinking, steps=STEPS[0])
