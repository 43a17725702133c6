"""What is heard of a generation while the rest of it is made.

The language model and the DiT need the whole song, the VAE does not: so the time to the first audio has three
parts, and what follows depends on the VAE and the length of a chunk alone. A player at 1x begins with the
first chunk; where the next is not there in time it is silent, which is an underrun (`harness/streaming.py`).
"""

import math

from ._matrix import CHUNKS_S, DURATIONS_S, THINKING, cell
from .common import Suite, tracks


class TrackFirstAudio(Suite):
    """One item at 8 steps, in chunks of `chunk_s` seconds. A cell whose audio is not what is made at once,
    but for rounding, has failed."""

    version = "1"
    params = (DURATIONS_S, THINKING, CHUNKS_S)
    param_names = ("duration_s", "thinking", "chunk_s")

    def cell(self, duration_s, thinking, chunk_s):
        return cell("stream", duration_s=duration_s, thinking=thinking, chunk_s=chunk_s)

    def heard(self, name):
        """A number of every timed run; n/a where there is none, as between chunks of a stream of one."""
        if self.record["runs"][0][name] is None:
            return math.nan
        return self.samples(lambda run: run[name])

    @tracks("seconds")
    def track_first_code(self, *_):
        """From the start to the first audio code, where codes are planned."""
        return self.heard("first_code_s")

    @tracks("seconds")
    def track_latents(self, *_):
        """From the start to the end of diffusion, which cannot be streamed."""
        return self.heard("latents_s")

    @tracks("seconds")
    def track_first_audio(self, *_):
        """From the start to the first chunk."""
        return self.heard("first_audio_s")

    @tracks("seconds")
    def track_gap_p50(self, *_):
        """From one chunk to the next, in the middle."""
        return self.heard("gap_p50_s")

    @tracks("seconds")
    def track_gap_p95(self, *_):
        return self.heard("gap_p95_s")

    @tracks("seconds")
    def track_gap_worst(self, *_):
        return self.heard("gap_worst_s")

    @tracks("underruns")
    def track_underruns(self, *_):
        """How often a player at 1x is silent."""
        return self.heard("underruns")

    @tracks("share of the peak")
    def track_offline_error(self, *_):
        """The largest difference of a sample from what is made at once."""
        return self.record["offline_error"]
