"""RVC, one voice to another: conversions, networks by themselves, memory by stage, distances, first runs.

Lengths are seconds of the recording; what is in MLX runs in a process of its own, and is n/a with the reason
where there is none. What a conversion costs on a card that is not here is in `costs.py`.
"""

from ._figures import _Call, _Distance, _Growth, _Phases, _Rtf, _StagePeaks, _Stages
from ._matrix import RVC, RVC_STAGES, cell
from .common import RunSuite, one_worker, tracks

FRAME_RATE = 100  # of all networks
DURATIONS_S, BACKENDS = RVC["duration_s"], RVC["backend"]
SHORT = {"duration_s": DURATIONS_S[:1]}
IN_PIECES = ("rmvpe", "flow", "synthesis")  # and with norms in them; the others' attention is of all
NORMS = (*IN_PIECES, "hubert")


class _Conversion(RunSuite):
    """Base of the classes that one worker serves."""

    subject = "rvc"
    tiny = SHORT

    @one_worker
    def setup_cache(self):
        return super().setup_cache()


class TimeConversion(_Rtf, _Conversion):
    """A recording to a file in another voice."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")


class TrackConversionStages(_Stages, _Conversion):
    """Seconds per stage; with `other` they add up to the wall time."""

    version = "1"
    params = ((*RVC_STAGES, "save", "other"), DURATIONS_S)
    param_names = ("stage", "duration_s")

    def cell(self, stage, duration_s):
        return cell("request", subject=self.subject, duration_s=duration_s, backend=BACKENDS[0])


class _Network(_Call):
    """A network by itself, on a length of audio."""

    def cell(self, network, duration_s, backend):
        size = round(FRAME_RATE * duration_s)
        return cell("component", subject=self.subject, component=network, size=size, backend=backend)


class TimeRMVPE(_Network, _Conversion):
    """A log-mel to the salience of pitch: U-Net and GRU. Log-mel and decoding are in the stage `pitch`."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")

    def cell(self, duration_s, backend):
        return super().cell("rmvpe", duration_s, backend)


class TimeHuBERT(_Network, _Conversion):
    """Samples to features."""

    version = "1"
    params = (DURATIONS_S, BACKENDS)
    param_names = ("duration_s", "backend")

    def cell(self, duration_s, backend):
        return super().cell("hubert", duration_s, backend)


class TimeSynthesis(_Network, _Conversion):
    """Features and pitch to samples: each of the three networks by itself."""

    version = "1"
    params = (RVC["network"], DURATIONS_S, BACKENDS)
    param_names = ("network", "duration_s", "backend")


class TrackRVCScaling(_Growth, _Conversion):
    """seconds ~ length^exponent, and seconds = intercept + slope * length, of a network."""

    version = "1"
    params = (RVC["component"],)
    param_names = ("component",)

    @tracks("ms per s")
    def track_slope(self, *_):
        return self.ms("slope")


class TrackRVCParity(_Distance, _Conversion):
    """How far a part is from itself with its norms left in, in pieces, or in MLX, the same going in. One over
    the limit of its relative RMS has failed; correlation decides nothing."""

    version = "1"
    kind = "parity"
    params = (RVC["part"], RVC["comparison"])
    param_names = ("part", "comparison")

    def leaves(self, source, *params):
        part, comparison = params
        parts = {"folded": NORMS, "chunked": IN_PIECES}.get(comparison, RVC["part"])
        return part in parts and super().leaves(source, *params)

    @tracks("mean distance of log-mels")
    def track_log_mel(self, *_):
        """n/a of features."""
        return self.figure("log_mel")

    @tracks("1 - correlation")
    def track_decorrelation(self, *_):
        return 1 - self.figure("correlation")


class TrackPitchAccuracy(_Conversion):
    """Pitch that is decoded from the ideal salience of a voice of known pitch."""

    version = "1"
    kind = "accuracy"
    params = (RVC["voice"],)
    param_names = ("voice",)

    @tracks("cents, RMS")
    def track_cents(self, *_):
        return self.record["accuracy"]["cents_rms"]

    @tracks("cents")
    def track_cents_max(self, *_):
        return self.record["accuracy"]["cents_max"]

    @tracks("1 - F1")
    def track_voicing_error(self, *_):
        return 1 - self.record["accuracy"]["voiced_f1"]


class TrackRVCColdStart(_Phases, _Conversion):
    """A fresh process: imports, loading, the first conversion, the next one."""

    version = "1"
    params = (RVC["phase"],)
    param_names = ("phase",)

    def cell(self, phase):
        return cell("cold", subject=self.subject, duration_s=DURATIONS_S[0])


class PeakMemConversion(_StagePeaks):
    """The peak of memory while a stage ran."""

    version = "1"
    subject = "rvc"
    tiny = SHORT
    params = (RVC_STAGES, DURATIONS_S)

    @one_worker
    def setup_cache(self):
        return super().setup_cache()
