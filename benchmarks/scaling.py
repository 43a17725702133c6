"""How the time of a component grows with length, from its seconds at several lengths.

The intervals of the growth, by bootstrap over the samples of all runs, are in the record of each cell
(`.asv/records/`) and in the table that `make bench` ends with; what asv shows is the growth of each run.
"""

from ._matrix import SCALED, cell
from .common import Suite, tracks


class TrackScaling(Suite):
    """seconds ~ length^exponent, and seconds = intercept + slope * length. Length is seconds of audio, of
    `text_encode` tokens. `mel` is n/a: ACE-Step hears waveforms through its VAE, and has none."""

    version = "1"
    params = (SCALED,)
    param_names = ("component",)

    def cell(self, component):
        return cell("scaling", component=component)

    @tracks("log-log slope")
    def track_exponent(self, *_):
        """Below the true one where there is an intercept."""
        return self.samples(lambda run: run["exponent"])

    @tracks("ms per s, or token")
    def track_slope(self, *_):
        return self.samples(lambda run: 1e3 * run["slope"])

    @tracks("ms")
    def track_intercept(self, *_):
        """What a call of no length would take."""
        return self.samples(lambda run: 1e3 * run["intercept"])
