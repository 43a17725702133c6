"""Peak memory per tier: one generation in a fresh process that may use only so much."""

import math

from ._matrix import TIERS_GB, WITH_LM, TierCell
from ._records import measure
from .common import SETUP_CACHE_TIMEOUT_S, Suite, tracks


class PeakMemTier(Suite):
    """What a card of `tier_gb` would have to hold. Out of memory is a result, not a failure."""

    version = "1"
    params = (TIERS_GB, WITH_LM)
    param_names = ("tier_gb", "lm")

    def setup_cache(self):
        return measure("memory")

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S

    def cell(self, tier_gb, lm):
        return TierCell(tier_gb, lm, 0)

    @tracks("bytes")
    def track_peak(self, *_):
        """Bytes that count against the tier; n/a unless the generation succeeded."""
        return self.record["peak_bytes"] if self.record["status"] == "ok" else math.nan

    @tracks("exit code")
    def track_status(self, *_):
        """0 ok, otherwise why not (20 is out of memory), so a tier that newly fails reads as a loss."""
        code = self.record["exit_code"]
        if code is None:
            return math.nan  # the case does not apply to this machine
        return code if code >= 0 else 128 - code  # a signal, the way a shell numbers it
