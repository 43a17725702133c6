"""Base classes of what several benchmarks read of their records: the methods, with their units.

Each is one decision, whoever is measured. asv takes no class for a benchmark whose name has an underscore in
front.
"""

from __future__ import annotations

import math

from ._matrix import cell
from .common import RunSuite, Suite, tracks


class _Wall(Suite):
    """A request from its beginning to its file."""

    @tracks("seconds")
    def track_wall(self, *_):
        return self.wall()


class _Rtf(_Wall):
    """The same, and beside what it makes."""

    @tracks("wall s per s of audio")
    def track_rtf(self, *_):
        """Real-time factor of one item."""
        audio_s = self.record["counts"]["audio_s"]
        return self.samples(lambda run: run["wall_s"] / audio_s)


class _Call(Suite):
    """A network by itself."""

    @tracks("seconds")
    def track_call(self, *_):
        return self.wall()


class _Diffusion(Suite):
    """Noise to latents."""

    @tracks("seconds")
    def track_diffuse(self, *_):
        return self.stage("diffuse")


class _Part(Suite):
    """A part of what a cell measures: the first parameter names it, the others are the cell's."""

    def cell(self, _, *params):
        return cell(self.kind, subject=self.subject, **dict(zip(self.param_names[1:], params, strict=True)))


class _TimedPart(_Part):
    """Seconds of a part, of those that runs have in one mapping. One that does not run is n/a."""

    parts_s: str  # the mapping

    def setup(self, records: dict[str, dict], part: str, *params) -> None:
        super().setup(records, part, *params)
        if part not in self.record["runs"][0][self.parts_s]:
            raise NotImplementedError(f"{part} does not run in {self.record['cell']}")


class _Stages(_TimedPart):
    """Stages of a request, which with `other` add up to its wall time."""

    parts_s = "stages_s"

    @tracks("seconds")
    def track_stage(self, _, stage, *__):
        return self.stage(stage)


class _Phases(_TimedPart):
    """Phases of a process from its beginning on."""

    kind = "cold"
    parts_s = "phases_s"

    @tracks("seconds")
    def track_phase(self, _, phase, *__):
        return self.samples(lambda run: run["phases_s"][phase])


class _StagePeaks(_Part, RunSuite):
    """The peak while a stage ran: of the process on a CPU, of what is allocated on a card. In a process where
    nothing is timed; one that is below the weights has failed."""

    kind = "footprint"
    param_names = ("stage", "duration_s")

    @tracks("bytes")
    def track_peak(self, _, stage, __):
        return self.record["peaks_bytes"].get(stage, math.nan)


class _CardPeak(Suite):
    """What a card of a size would have to hold."""

    @tracks("bytes")
    def track_peak(self, *_):
        """n/a where it does not fit, or is not tried."""
        return self.record["peak_bytes"] if self.record["status"] == "ok" else math.nan


class _Heard(Suite):
    """What a player hears of a stream. A cell whose audio is not what is made at once, but for rounding, has
    failed."""

    def heard(self, name):
        """A number of every timed run; n/a where there is none, as between chunks of a stream of one."""
        if self.record["runs"][0][name] is None:
            return math.nan
        return self.samples(lambda run: run[name])

    @tracks("seconds")
    def track_first_audio(self, *_):
        """From the start to the first chunk."""
        return self.heard("first_audio_s")

    @tracks("seconds")
    def track_gap_p50(self, *_):
        """From one chunk to the next, in the middle."""
        return self.heard("gap_p50_s")

    @tracks("seconds")
    def track_gap_p95(self, *_):
        return self.heard("gap_p95_s")

    @tracks("seconds")
    def track_gap_worst(self, *_):
        return self.heard("gap_worst_s")

    @tracks("underruns")
    def track_underruns(self, *_):
        """How often a player at 1x is silent."""
        return self.heard("underruns")

    @tracks("share of the peak")
    def track_offline_error(self, *_):
        """The largest difference of a sample from what is made at once."""
        return self.record["offline_error"]


class _Distance(Suite):
    """How far what is made another way is off. One over its limit has failed."""

    def figure(self, name):
        """n/a where there is none: of two that are equal no ratio to the noise."""
        value = self.record["parity"].get(name)
        return math.nan if value is None else value

    @tracks("relative RMS")
    def track_relative_rms(self, *_):
        return self.figure("relative_rms")

    @tracks("max abs")
    def track_max_abs(self, *_):
        return self.figure("max_abs")

    @tracks("dB")
    def track_nmse(self, *_):
        """The signal-to-noise ratio with its sign turned."""
        return -self.figure("snr_db")


class _Growth(Suite):
    """seconds ~ length^exponent, and seconds = intercept + slope * length."""

    kind = "scaling"

    def ms(self, name):
        return self.samples(lambda run: 1e3 * run[name])

    @tracks("log-log slope")
    def track_exponent(self, *_):
        """Below the true one where there is an intercept."""
        return self.samples(lambda run: run["exponent"])

    @tracks("ms")
    def track_intercept(self, *_):
        """What a call of no length would take."""
        return self.ms("intercept")
