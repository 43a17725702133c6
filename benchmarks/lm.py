"""Planning by the 5 Hz language model, alone: chain-of-thought metadata, then audio codes.

Prefill and decode are two regimes: prefill multiplies many tokens at once and is bound by compute,
decode is one token per pass and bound by memory traffic. One throughput over both says nothing.
"""

from ._figures import _Stages, _Wall
from ._matrix import BACKENDS, BATCHES, DURATIONS_S, LM_STAGES, TEXT_MODES, THINKING, cell, engine
from .common import Suite, tracks


class TimeLMPlanning(Suite):
    """Metadata from the caption (thinking off), and 5 audio codes per second after it (thinking on). Backends
    other than our own plan one item of the shortest; on a CPU they are there to compare tokens with."""

    version = "3"
    params = (DURATIONS_S, BATCHES, THINKING, BACKENDS)
    param_names = ("duration_s", "batch", "thinking", "backend")

    def cell(self, duration_s, batch, thinking, backend):
        size = {"duration_s": duration_s, "batch": batch, "thinking": thinking}
        return cell("plan", **size, engine=engine(backend=backend))

    @tracks("seconds")
    def track_plan(self, *_):
        return self.wall()


class _Throughput(Suite):
    """The rates are for reading; their ms per token are what gates."""

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


class TrackTokensPerSec(_Throughput):
    """LM throughput over both phases of planning."""

    version = "3"
    params = (DURATIONS_S, BATCHES, BACKENDS)
    param_names = ("duration_s", "batch", "backend")

    def cell(self, duration_s, batch, backend):
        size = {"duration_s": duration_s, "batch": batch, "thinking": True}
        return cell("plan", **size, engine=engine(backend=backend))


class TimeTextMode(_Throughput, _Wall):
    """Understand, create and format: wall time, and throughput of a text without guidance."""

    version = "1"
    kind = "text"
    params = (TEXT_MODES,)
    param_names = ("mode",)


class TrackTextStages(_Stages):
    """Each stage of a text mode; they add up to its wall time."""

    version = "1"
    kind = "text"
    params = (LM_STAGES, TEXT_MODES)
    param_names = ("stage", "mode")
