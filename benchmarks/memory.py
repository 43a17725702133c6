"""Memory per tier: one generation in a fresh process that may use only so much, and what follows from all."""

import math

from ._figures import _CardPeak
from ._matrix import DITS, TIERS_GB, VARIANTS, WITH_LM, cell
from .common import Suite, one_worker, tracks

XL = DITS[1]


class _Tiers(Suite):
    """Base of the classes that read the capped processes of one run."""

    job = ("memory",)

    @one_worker
    def setup_cache(self):
        return super().setup_cache()


class PeakMemTier(_CardPeak, _Tiers):
    """What a card of `tier_gb` would have to hold. Out of memory is a result, not a failure."""

    version = "3"
    kind = "memory"
    params = (TIERS_GB, WITH_LM)
    param_names = ("tier_gb", "lm")

    @tracks("exit code")
    def track_status(self, *_):
        """0 ok, otherwise why not (20 is out of memory), so a tier that newly fails reads as a loss."""
        code = self.record["exit_code"]
        if code is None:
            return math.nan  # the case does not apply to this machine
        return code if code >= 0 else 128 - code  # a signal, the way a shell numbers it


class PeakMemTierXL(PeakMemTier):
    """The same with the XL DiT, without a language model. n/a where the tier's policy has none, and of tiny
    weights, which are as large as any other tiny ones: `dit=xl-turbo` runs them."""

    version = "1"
    params = (TIERS_GB,)
    param_names = ("tier_gb",)

    def cell(self, tier_gb):
        return cell("memory", tier_gb=tier_gb, lm=False, dit=XL)


class TrackTierBoundary(_Tiers):
    """The smallest card that does without what a variant leaves out, as every larger one tested does.

    Where no smaller one was tested it is at most that; the record says so (`proven`).
    """

    version = "2"
    kind = "boundary"
    params = (VARIANTS[1:], WITH_LM)
    param_names = ("variant", "lm")

    @tracks("GB")
    def track_minimum(self, *_):
        """GB of that card. That there is none is a failure with a reason, not a number."""
        if self.record["tier_gb"] is None:
            raise RuntimeError(f"no card that was tested can do {self.record['cell']}")
        return self.record["tier_gb"]


class TrackTierBoundaryXL(TrackTierBoundary):
    """The same with the XL DiT, without a language model, of the cards that may have one."""

    version = "1"
    params = (VARIANTS[1:],)
    param_names = ("variant",)

    def cell(self, variant):
        return cell("boundary", variant=variant, lm=False, dit=XL)
