"""VAE: latents at 25 frames per second to a 48 kHz stereo waveform."""

from ._matrix import BATCHES, DURATIONS_S, STEPS, cell
from .common import Suite, tracks


class TimeVAEDecode(Suite):
    """Latents to waveform, in tiles."""

    version = "1"
    params = (DURATIONS_S, BATCHES)
    param_names = ("duration_s", "batch")

    def cell(self, duration_s, batch):
        return cell("generate", duration_s=duration_s, batch=batch, thinking=False, steps=STEPS[0])

    @tracks("seconds")
    def track_vae_decode(self, *_):
        return self.stage("vae_decode")
