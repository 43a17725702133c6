"""Whether a faster engine still makes the same music: its distance from the plain one, beside its time.

Weights, noise and random draws are the same on both sides, so two runs of a commit give the same numbers.
One over the limit of its output fails its cell (`worker/engine_parity.py`). Every number shrinks when it gets
better.
"""

from ._figures import _Distance
from ._matrix import BACKENDS, COMPILE, DIT_OUTPUTS, QUANTIZATIONS, TOKENS, cell, engine
from .common import Suite, tracks


class TrackParity(_Distance):
    """What the DiT makes, quantized or compiled, against eager PyTorch, of which `none` is a second run."""

    version = "1"
    params = (DIT_OUTPUTS, QUANTIZATIONS, COMPILE)
    param_names = ("output", "quantization", "compile")

    def cell(self, output, quantization, compile):
        name = engine(quantization=quantization, compile=compile)
        return cell("parity", output=output, engine=name)


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
