"""What is heard of a generation while the rest of it is made.

The language model and the DiT need the whole song, the VAE does not: so the time to the first audio has three
parts, and what follows depends on the VAE and the length of a chunk alone. A player at 1x begins with the
first chunk; where the next is not there in time it is silent, which is an underrun (`harness/streaming.py`).
"""

from ._figures import _Heard
from ._matrix import CHUNKS_S, DURATIONS_S, THINKING
from .common import tracks


class TrackFirstAudio(_Heard):
    """One item at 8 steps, in chunks of `chunk_s` seconds."""

    version = "1"
    kind = "stream"
    params = (DURATIONS_S, THINKING, CHUNKS_S)
    param_names = ("duration_s", "thinking", "chunk_s")

    @tracks("seconds")
    def track_first_code(self, *_):
        """From the start to the first audio code, where codes are planned."""
        return self.heard("first_code_s")

    @tracks("seconds")
    def track_latents(self, *_):
        """From the start to the end of diffusion, which cannot be streamed."""
        return self.heard("latents_s")
