"""Diffusion: the DiT over all steps, the larger part of a generation on most devices."""

from ._figures import _Diffusion
from ._matrix import BATCHES, DURATIONS_S, QUANTIZATIONS, SHORTEST_S, STEPS, cell, engine


class TimeDiT(_Diffusion):
    """Noise to latents, without the planner; quantized, one item of the shortest."""

    version = "2"
    params = (DURATIONS_S, BATCHES, STEPS, QUANTIZATIONS)
    param_names = ("duration_s", "batch", "steps", "quantization")

    def cell(self, duration_s, batch, steps, quantization):
        size = {"duration_s": duration_s, "batch": batch, "thinking": False, "steps": steps}
        return cell("generate", **size, engine=engine(quantization=quantization))


class TimeCompiledDiT(_Diffusion):
    """The same compiled, which is before its time starts. Where the tier compiles, or where asked for."""

    version = "1"
    params = (SHORTEST_S, QUANTIZATIONS)
    param_names = ("duration_s", "quantization")

    def cell(self, duration_s, quantization):
        size = {"duration_s": duration_s, "batch": BATCHES[0], "thinking": False, "steps": STEPS[0]}
        return cell("generate", **size, engine=engine(quantization=quantization, compile=True))
