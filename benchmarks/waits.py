"""How often host and card wait for each other: copies over the link between them, counted on the fake card.

A value read back empties the queue of kernels, and what is copied to the card is waited for: in an inner loop
either leaves the card idle. What is allowed is a table, docs/waits.toml, which a test holds.
"""

from fractions import Fraction
from math import ceil

from ._matrix import WAITS_BATCHES, WAITS_MODES, cell
from .common import tracks
from .costs import TORCH, _Predicted

# By what a loop makes: its stage, and how many a request made (a field of the result's counts).
LOOPS = {
    "code": ("lm_decode", "audio_codes"),
    "step": ("diffuse", "dit_steps"),
    "tile": ("vae_decode", "vae_tiles"),
}
REQUEST = "request"  # all that is not of a loop


def times(request, way):
    """How often something went a `way`, reads to the host or copies to the card, by stage."""
    return {stage: sum(lines.values()) for stage, lines in request[way].items()}


def growth(record, way, unit):
    """The same for one more of what a loop makes, from requests of few and more of it. A fraction where
    only some do."""
    stage, count = LOOPS[unit]
    few, more = record["requests"]
    grown = times(more, way)[stage] - times(few, way)[stage]
    return Fraction(grown, more["counts"][count] - few["counts"][count])


def per_unit(record, way, unit):
    """In whole numbers: what some of them do counts as if all did."""
    return ceil(growth(record, way, unit))


def per_request(record, way):
    """The same of the smaller request, its loops left out."""
    few, _ = record["requests"]
    in_loops = sum(few["counts"][count] * growth(record, way, unit) for unit, (_, count) in LOOPS.items())
    return max(round(sum(times(few, way).values()) - in_loops), 0)


class TrackWaits(_Predicted):
    """Copies for one more audio code, DiT step and tile of the VAE, and for a request beside those.

    `variant`: of the DiT; base is guided, and of two items. `mode`: if steps are recorded.
    """

    version = f"1, torch {TORCH}"
    params = ((*LOOPS, REQUEST), tuple(WAITS_BATCHES), WAITS_MODES)
    param_names = ("unit", "variant", "mode")

    def cell(self, unit, variant, mode):
        return cell("waits", variant=variant, mode=mode)

    def _value(self, unit, way):
        return per_request(self.record, way) if unit == REQUEST else per_unit(self.record, way, unit)

    @tracks("reads")
    def track_reads(self, _, unit, *__):
        """From the card to the host. n/a of a commit that does not count them."""
        return self._value(unit, "reads")

    @tracks("copies")
    def track_copies(self, _, unit, *__):
        """From the host to the card. n/a of a commit that does not count them."""
        return self._value(unit, "copies")
