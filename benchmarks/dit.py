"""Diffusion: the DiT over all steps, the larger part of a generation on most devices."""

from ._matrix import BATCHES, DURATIONS_S, STEPS, Cell
from .common import Suite, tracks


class TimeDiT(Suite):
    """Noise to latents, without the planner."""

    version = "1"
    params = (DURATIONS_S, BATCHES, STEPS)
    param_names = ("duration_s", "batch", "steps")

    def cell(self, duration_s, batch, steps):
        return Cell("generate", duration_s, batch, False, steps)

    @tracks("seconds")
    def track_diffuse(self, *_):
        return self.stage("diffuse")
