"""Diffusion: the DiT over all steps, the larger part of a generation on most devices."""

from ._matrix import BATCHES, DURATIONS_S, QUANTIZATIONS, SHORTEST_S, STEPS, Cell, engine
from .common import Suite, tracks


class TimeDiT(Suite):
    """Noise to latents, without the planner; quantized, one item of the shortest."""

    version = "2"
    params = (DURATIONS_S, BATCHES, STEPS, QUANTIZATIONS)
    param_names = ("duration_s", "batch", "steps", "quantization")

    def cell(self, duration_s, batch, steps, quantization):
        return Cell("generate", duration_s, batch, False, steps, engine(quantization=quantization))

    @tracks("seconds")
    def track_diffuse(self, *_):
        return self.stage("diffuse")


class TimeCompiledDiT(Suite):
    """The same compiled, which is before its time starts. Where the tier compiles, or where asked for."""

    version = "1"
    params = (SHORTEST_S, QUANTIZATIONS)
    param_names = ("duration_s", "quantization")

    def cell(self, duration_s, quantization):
        runs = engine(quantization=quantization, compile=True)
        return Cell("generate", duration_s, BATCHES[0], False, STEPS[0], runs)

    @tracks("seconds")
    def track_diffuse(self, *_):
        return self.stage("diffuse")
