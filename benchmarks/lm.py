"""Planning by the 5 Hz language model, alone: chain-of-thought metadata, then audio codes.

Prefill and decode are two regimes: prefill multiplies many tokens at once and is bound by compute,
decode is one token per pass and bound by memory traffic. One throughput over both says nothing.
"""

from ._matrix import BATCHES, DURATIONS_S, THINKING, Cell
from .common import Suite, tracks


class TimeLMPlanning(Suite):
    """Metadata from the caption (thinking off), and 5 audio codes per second after it (thinking on)."""

    version = "1"
    params = (DURATIONS_S, BATCHES, THINKING)
    param_names = ("duration_s", "batch", "thinking")

    def cell(self, duration_s, batch, thinking):
        return Cell("plan", duration_s, batch, thinking)

    @tracks("seconds")
    def track_plan(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TrackTokensPerSec(Suite):
    """LM throughput over both phases. The rates are for reading; their ms per token are what gates."""

    version = "1"
    params = (DURATIONS_S, BATCHES)
    param_names = ("duration_s", "batch")

    def cell(self, duration_s, batch):
        return Cell("plan", duration_s, batch, True)

    def ms(self, phase):
        tokens = self.record["counts"][f"lm_{phase}_tokens"]
        return self.samples(lambda run: 1e3 * run["stages_s"][f"lm_{phase}"] / tokens)

    def rate(self, phase):
        tokens = self.record["counts"][f"lm_{phase}_tokens"]
        return self.samples(lambda run: tokens / run["stages_s"][f"lm_{phase}"])

    @tracks("ms/token")
    def track_prefill_ms(self, *_):
        return self.ms("prefill")

    @tracks("ms/token")
    def track_decode_ms(self, *_):
        return self.ms("decode")

    @tracks("tokens/s", less_is_better=False)
    def track_prefill_rate(self, *_):
        return self.rate("prefill")

    @tracks("tokens/s", less_is_better=False)
    def track_decode_rate(self, *_):
        return self.rate("decode")
