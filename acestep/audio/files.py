"""Recordings from disk, as the models hear them: stereo, 48 kHz, float32 in [-1, 1].

A header is a claim, so nothing is sized by it. A file is read in blocks of bounded size, mixed down and
resampled as it comes (soxr, band-limited: 44.1 kHz is 147/160 of 48 kHz), and left as soon as enough is read.

    >>> read("examples/audio/loop.flac", "src_audio", most_s=30).shape
    (2, 384000)

numpy, soundfile and soxr are imported where they are used: together they cost a tenth of a second.
No torch import here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acestep.audio.channels import Layout, layout
from acestep.models.rates import SAMPLE_RATE
from harness.errors import MissingPrerequisite, UsageError
from harness.sound import blocks, claimed, is_cut, mute
from harness.sound import opened as open_sound
from harness.views import View

if TYPE_CHECKING:
    import numpy as np
    from soundfile import SoundFile

RATES = (1_000, 768_000)  # samples per second of anything that is a recording
LOUDEST = 1e36  # what mixing and resampling cannot carry beyond all numbers
FORMATS = "wav, flac, ogg, mp3, or what else libsndfile reads (not m4a)"
MISPLACED = "File does not exist"  # so libsndfile says of a file in which there is no whole frame


@dataclass(slots=True)
class Sound:
    """An open recording and its header. `claimed_s`: its seconds, None where it claims none."""

    name: str  # who asked, and the path, for messages
    file: SoundFile
    format: str  # libsndfile's name of it
    rate: int
    layout: Layout
    claimed_s: float | None
    view: View | None  # what libsndfile reads for the file
    muted: int = 0  # samples so far

    @property
    def cut(self) -> bool:
        """Whether its last sample cannot be read; known once all that can be was, while it is open."""
        return is_cut(self.claimed_s, self.view)

    def blocks(self, most_s: float) -> Iterator[np.ndarray]:
        """Samples as they are in the file, float32 `[n, channels]`, until `most_s` seconds are read; silence
        in place of the noise that damaged frames of an MP3 decode to (`muted`).

        Raises UsageError where there are none, or they are no numbers.
        """
        import numpy as np

        empty = True
        for block in blocks(self.file, most_s * self.rate):
            empty = False
            if not np.abs(block).max() <= LOUDEST:
                raise UsageError(f"{self.name} holds NaN or infinite samples; export it again")
            self.muted += mute(self.file, block)
            yield block
        if empty:
            raise _nothing(self.name)


def read(path: str, field: str, most_s: float) -> np.ndarray:
    """The first `most_s` seconds of `path`: float32 `[2, N]` at 48 kHz, turned down to [-1, 1].

    Mono is doubled; more than two channels are mixed down (`acestep.audio.channels`). N is the length in
    seconds times 48,000, rounded up: one sample is audio, too. `field` is who asked, for messages.

    Raises MissingPrerequisite when there is no such file or it is not (or no longer) audio, UsageError
    when it holds no samples or NaN.
    """
    import numpy as np
    import soxr

    with opened(path, field) as sound:
        gains = np.array(sound.layout.gains, np.float32)
        stream = soxr.ResampleStream(sound.rate, SAMPLE_RATE, gains.shape[1], dtype="float32")
        frames, pieces = 0, []
        for block in sound.blocks(most_s):
            frames += len(block)
            pieces.append(stream.resample_chunk(block @ gains))
        rate = sound.rate
    # What the filter still holds, and enough after it that rounding up always finds a sample.
    rest = np.zeros((math.ceil(rate / SAMPLE_RATE), gains.shape[1]), np.float32)
    pieces.append(stream.resample_chunk(rest, last=True))
    samples = min(-(-frames * SAMPLE_RATE // rate), math.ceil(most_s * SAMPLE_RATE))
    wave = np.ascontiguousarray(np.concatenate(pieces)[:samples].T)
    return wave / max(np.abs(wave).max(), np.float32(1))


@contextmanager
def opened(path: str, field: str) -> Iterator[Sound]:
    """A recording to be read once, from its beginning. Raises as `read` does, in its body, too."""
    import soundfile

    name = f"{field}: {path!r}"
    try:
        with open_sound(path) as (sound, seen):
            yield _sound(sound, seen, name)
    except FileNotFoundError as error:
        raise MissingPrerequisite(
            f"{field}: no file at {path!r} ({error.strerror}); give the path of a recording"
        ) from None
    except OSError as error:
        raise MissingPrerequisite(f"{name} cannot be read: {error.strerror}") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        reason = "" if reason.startswith(MISPLACED) else f" ({reason})"
        raise MissingPrerequisite(
            f"{name} is no audio, or damaged{reason}; use a whole file of {FORMATS}"
        ) from None


def _sound(sound: SoundFile, seen: View | None, name: str) -> Sound:
    low, high = RATES
    rate, frames = sound.samplerate, sound.frames
    if not low <= rate <= high:
        raise MissingPrerequisite(f"{name} says {rate} samples per second; use {low} to {high}")
    if not frames and not seen:
        raise _nothing(name)
    samples = claimed(sound, seen)
    return Sound(
        name=name,
        file=sound,
        format=sound.format,
        rate=rate,
        layout=layout(sound.channels, sound.format, sound.extra_info),
        claimed_s=None if samples is None else samples / rate,
        view=seen,
    )


def _nothing(name: str) -> UsageError:
    return UsageError(f"{name} holds no samples; give a recording that is not empty")
