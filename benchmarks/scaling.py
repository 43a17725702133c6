"""How the time of a component grows with length, from its seconds at several lengths.

The intervals of the growth, by bootstrap over the samples of all runs, are in the record of each cell
(`.asv/records/`) and in the table that `make bench` ends with; what asv shows is the growth of each run.
"""

from ._figures import _Growth
from ._matrix import SCALED
from .common import tracks


class TrackScaling(_Growth):
    """seconds ~ length^exponent, and seconds = intercept + slope * length. Length is seconds of audio, of
    `text_encode` tokens. `mel` is n/a: ACE-Step hears waveforms through its VAE, and has none."""

    version = "1"
    params = (SCALED,)
    param_names = ("component",)

    @tracks("ms per s, or token")
    def track_slope(self, *_):
        return self.ms("slope")
