"""RVC, one voice to another: conversions, networks by themselves, memory by stage, distances, first runs.

Lengths are seconds of the recording; what is in MLX runs in a process of its own, and is n/a with the reason
where there is none. What a conversion costs on a card that is not here is in `costs.py`.
"""

import math

from ._matrix import RVC, RVC_STAGES, cell
from .common import SETUP_CACHE_TIMEOUT_S, RunSuite, _StagePeaks, _Stages, tracks

FRAME_RATE = 100  # of all networks
DURATIONS_S, BACKENDS = RVC["duration_s"], RVC["backend"]
SHORT = {"duration_s": DURATIONS_S[:1]}
IN_PIECES = ("rmvpe", "flow", "synthesis")  # and with norms in them; the others' attention is of all
NORMS = (*IN_PIECES, "hubert")


class _Conversion(RunSuite):
    """Base of the classes that one worker serves."""

    subject = "rvc"
    tiny = SHORT

    def setup_cache(self):
        return self.measured()

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S

    def network(self, name, duration_s, backend):
        """The cell of a network by itself."""
        size = round(FRAME_RATE * duration_s)
        return cell("component", subject=self.subject, component=name, size=size, backend=backend)


class TimeConversion(_Conversion):
    """A recording to a file in another voice."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")

    @tracks("seconds")
    def track_wall(self, *_):
        return self.samples(lambda run: run["wall_s"])

    @tracks("wall s per s of audio")
    def track_rtf(self, *_):
        audio_s = self.record["counts"]["audio_s"]
        return self.samples(lambda run: run["wall_s"] / audio_s)


class TrackConversionStages(_Stages, _Conversion):
    """Seconds per stage; with `other` they add up to the wall time."""

    version = "1"
    params = ((*RVC_STAGES, "save", "other"), DURATIONS_S)
    param_names = ("stage", "duration_s")

    def cell(self, stage, duration_s):
        return cell("request", subject=self.subject, duration_s=duration_s, backend=BACKENDS[0])


class TimeRMVPE(_Conversion):
    """A log-mel to the salience of pitch: U-Net and GRU. Log-mel and decoding are in the stage `pitch`."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")

    def cell(self, duration_s, backend):
        return self.network("rmvpe", duration_s, backend)

    @tracks("seconds")
    def track_call(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TimeHuBERT(_Conversion):
    """Samples to features."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")

    def cell(self, duration_s, backend):
        return self.network("hubert", duration_s, backend)

    @tracks("seconds")
    def track_call(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TimeSynthesis(_Conversion):
    """Features and pitch to samples: each of the three networks by itself."""

    version = "1"
    params = (RVC["network"], DURATIONS_S, BACKENDS)
    param_names = ("network", "duration_s", "backend")

    def cell(self, network, duration_s, backend):
        return self.network(network, duration_s, backend)

    @tracks("seconds")
    def track_call(self, *_):
        return self.samples(lambda run: run["wall_s"])


class TrackRVCScaling(_Conversion):
    """seconds ~ length^exponent, and seconds = intercept + slope * length, of a network."""

    version = "1"
    params = (RVC["component"],)
    param_names = ("component",)

    def cell(self, component):
        return cell("scaling", subject=self.subject, component=component)

    @tracks("log-log slope")
    def track_exponent(self, *_):
        """Below the true one where there is an intercept."""
        return self.samples(lambda run: run["exponent"])

    @tracks("ms per s")
    def track_slope(self, *_):
        return self.samples(lambda run: 1e3 * run["slope"])

    @tracks("ms")
    def track_intercept(self, *_):
        """What a call of no length would take."""
        return self.samples(lambda run: 1e3 * run["intercept"])


class TrackRVCParity(_Conversion):
    """How far a part is from itself with its norms left in, in pieces, or in MLX, the same going in. One over
    the limit of its relative RMS has failed; correlation decides nothing."""

    version = "1"
    params = (RVC["part"], RVC["comparison"])
    param_names = ("part", "comparison")

    def leaves(self, source, *params):
        part, comparison = params
        parts = {"folded": NORMS, "chunked": IN_PIECES}.get(comparison, RVC["part"])
        return part in parts and super().leaves(source, *params)

    def cell(self, part, comparison):
        return cell("parity", subject=self.subject, part=part, comparison=comparison)

    def figure(self, name):
        """n/a where there is none: of two that are equal no ratio to the noise, of features no log-mel."""
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

    @tracks("mean distance of log-mels")
    def track_log_mel(self, *_):
        return self.figure("log_mel")

    @tracks("1 - correlation")
    def track_decorrelation(self, *_):
        return 1 - self.figure("correlation")


class TrackPitchAccuracy(_Conversion):
    """Pitch that is decoded from the ideal salience of a voice of known pitch."""

    version = "1"
    params = (RVC["voice"],)
    param_names = ("voice",)

    def cell(self, voice):
        return cell("accuracy", subject=self.subject, voice=voice)

    @tracks("cents, RMS")
    def track_cents(self, *_):
        return self.record["accuracy"]["cents_rms"]

    @tracks("cents")
    def track_cents_max(self, *_):
        return self.record["accuracy"]["cents_max"]

    @tracks("1 - F1")
    def track_voicing_error(self, *_):
        return 1 - self.record["accuracy"]["voiced_f1"]


class TrackRVCColdStart(_Conversion):
    """A fresh process: imports, loading, the first conversion, the next one."""

    version = "1"
    params = (RVC["phase"],)
    param_names = ("phase",)

    def cell(self, phase):
        return cell("cold", subject=self.subject, duration_s=DURATIONS_S[0])

    @tracks("seconds")
    def track_phase(self, _, phase):
        return self.samples(lambda run: run["phases_s"][phase])


class PeakMemConversion(_StagePeaks):
    """The peak of memory while a stage ran."""

    version = "1"
    subject = "rvc"
    tiny = SHORT
    params = (RVC_STAGES, DURATIONS_S)

    def setup_cache(self):
        return self.measured()

    setup_cache.timeout = SETUP_CACHE_TIMEOUT_S
