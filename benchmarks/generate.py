"""A whole generation, request to audio file, and where its time goes."""

from ._matrix import BATCHES, DURATIONS_S, PRESETS, SHORTEST_S, STAGES, STEPS, THINKING, cell
from .common import Suite, _Stages, tracks


class TimeGenerate(Suite):
    """Wall time of one request, the file written."""

    version = "2"
    params = (DURATIONS_S, BATCHES, THINKING, STEPS)
    param_names = ("duration_s", "batch", "thinking", "steps")

    def cell(self, duration_s, batch, thinking, steps):
        return cell("generate", duration_s=duration_s, batch=batch, thinking=thinking, steps=steps)

    @tracks("seconds")
    def track_wall(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TimeGeneratePreset(Suite):
    """Wall time of a request that leaves all but its length to a preset: upstream's defaults plan metadata,
    caption, language and codes, and write two items. How much is planned is the language model's."""

    version = "1"
    params = (PRESETS[1:], SHORTEST_S)
    param_names = ("preset", "duration_s")

    def cell(self, preset, duration_s):
        return cell("preset", preset=preset, duration_s=duration_s)

    @tracks("seconds")
    def track_wall(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TrackStages(_Stages):
    """Each stage of a generation of one item at 8 steps; they add up to its wall time."""

    version = "2"
    params = (STAGES, DURATIONS_S, THINKING)
    param_names = ("stage", "duration_s", "thinking")

    def cell(self, stage, duration_s, thinking):
        return cell("generate", duration_s=duration_s, batch=BATCHES[0], thinking=thinking, steps=STEPS[0])
