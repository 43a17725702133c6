"""Functions of the engine by themselves: microseconds of process time of one thread, per call.

The worker calls the very functions that the engine calls, on the CPU, or on a card where there is one.
ACE-Step hears waveforms through its VAE; the log-mel is that of Qwen3-TTS's speaker encoder. soxr makes its
filter within the call, as it does in the engine: what half a second costs beyond a quarter of two seconds is
that.
"""

import math

from ._matrix import MICRO
from .common import Suite, one_worker, tracks


class _Micro(Suite):
    """Base of the classes that read one run's calls. A subclass says which `kind` of cell it reads."""

    job = ("micro",)

    def __init_subclass__(cls, kind):
        cls.kind, cls.params, cls.param_names = kind, tuple(MICRO[kind].values()), tuple(MICRO[kind])

    @one_worker
    def setup_cache(self):
        return super().setup_cache()

    def call(self, name):
        """Microseconds of one call in every timed run; n/a where it is not made in this cell."""
        if name not in self.record["counts"]:
            return math.nan
        return self.samples(lambda run: run["calls_us"][name])


class TimeSampling(_Micro, kind="sampling"):
    """A token from logits. top-k, top-p and the penalty each with a draw; `whole`: all of them. The number
    behind `penalty` is how many tokens were seen."""

    version = "1"

    @tracks("µs")
    def track_pick(self, *_):
        return self.call("pick")


class TimeTokenMask(_Micro, kind="mask"):
    """The grammar of a description, state by state. `open`: half of a vocabulary is allowed, without a
    grammar; the states have that of text."""

    version = "1"

    @tracks("µs")
    def track_allowed(self, *_):
        """What may follow."""
        return self.call("allowed")

    @tracks("µs")
    def track_build(self, *_):
        """That as a mask over the vocabulary."""
        return self.call("build")

    @tracks("µs")
    def track_step(self, *_):
        """A step of constrained decoding but for the model: what may follow, a token of it, and on."""
        return self.call("step")


class TimeCodes(_Micro, kind="codes"):
    """Audio codes on their ways between text, integers, points of the grid, and latents."""

    version = "1"

    @tracks("µs")
    def track_join(self, *_):
        """Integers to text."""
        return self.call("join")

    @tracks("µs")
    def track_parse(self, *_):
        """Text to integers."""
        return self.call("parse")

    @tracks("µs")
    def track_decode(self, *_):
        """Integers to vectors."""
        return self.call("decode")

    @tracks("µs")
    def track_quantize(self, *_):
        """Vectors to integers."""
        return self.call("quantize")

    @tracks("µs")
    def track_detokenize(self, *_):
        """Vectors to latents."""
        return self.call("detokenize")

    @tracks("µs")
    def track_tokenize(self, *_):
        """Latents to integers."""
        return self.call("tokenize")


class TimeResample(_Micro, kind="resample"):
    """A waveform at another rate, from and to samples per second."""

    version = "1"

    @tracks("µs")
    def track_resample(self, *_):
        return self.call("resample")


class TimeMel(_Micro, kind="mel"):
    """A waveform to a log-mel: 24 kHz, 128 bands, a frame every 256 samples."""

    version = "1"

    @tracks("µs")
    def track_mel(self, *_):
        return self.call("mel")


class TimeSpan(_Micro, kind="span"):
    """A span that nobody reads, and one that is recorded."""

    version = "1"

    @tracks("µs")
    def track_span(self, *_):
        return self.call("span")
