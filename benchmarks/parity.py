"""Whether a faster engine still makes the same music: its distance from the plain one, beside its time.

Weights, noise and random draws are the same on both sides, so two runs of a commit give the same numbers.
One over the limit of its output fails its cell (`_parity.py`). Every number shrinks when it gets better.
"""

import math

from ._matrix import BACKENDS, COMPILE, DIT_OUTPUTS, QUANTIZATIONS, TOKENS, cell, engine
from .common import Suite, tracks


class TrackParity(Suite):
    """What the DiT makes, quantized or compiled, against eager PyTorch, of which `none` is a second run."""

    version = "1"
    params = (DIT_OUTPUTS, QUANTIZATIONS, COMPILE)
    param_names = ("output", "quantization", "compile")

    def cell(self, output, quantization, compile):
        name = engine(quantization=quantization, compile=compile)
        return cell("parity", output=output, engine=name)

    @tracks("relative RMS")
    def track_relative_rms(self, *_):
        return self.record["parity"]["relative_rms"]

    @tracks("max abs")
    def track_max_abs(self, *_):
        return self.record["parity"]["max_abs"]

    @tracks("dB")
    def track_nmse(self, *_):
        """The signal-to-noise ratio with its sign turned. n/a where there is no noise."""
        snr_db = self.record["parity"]["snr_db"]
        return math.nan if snr_db is None else -snr_db


class TrackTokenParity(Suite):
    """Share of audio codes that are not those of our own model; `pt` is a second run of it."""

    version = "2"
    params = (TOKENS, BACKENDS)
    param_names = ("output", "backend")

    def cell(self, output, backend):
        return cell("parity", output=output, engine=engine(backend=backend))

    @tracks("share")
    def track_disagreement(self, *_):
        return self.record["parity"]["disagreement"]
