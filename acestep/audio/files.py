"""Recordings from disk, as the models hear them: stereo, 48 kHz, float32 in [-1, 1].

A header is a claim, so nothing is sized by it. A file is read in blocks of bounded size, resampled as it
comes (soxr, band-limited: 44.1 kHz is 147/160 of 48 kHz), and left as soon as enough is read.

    >>> read("examples/audio/loop.flac", "src_audio", most_s=30).shape
    (2, 384000)

numpy, soundfile and soxr are imported where they are used: together they cost a tenth of a second.
No torch import here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.models.rates import SAMPLE_RATE
from harness.errors import MissingPrerequisite, UsageError

if TYPE_CHECKING:
    import numpy as np
    from soundfile import SoundFile

CHANNELS = 2
RATES = (1_000, 768_000)  # samples per second of anything that is a recording
LONGEST_S = 1_000_000  # twelve days: a header that claims more does not know
BLOCK_VALUES = 2**18  # samples times channels in memory at once
FORMATS = "wav, flac, ogg, mp3, or what else libsndfile reads"


def probe(path: str, field: str) -> float:
    """Seconds of audio the header of `path` claims; what can be read may be less.

    Raises as `read` does, except for what only the samples show.
    """
    with _opened(path, field) as sound:
        return sound.frames / sound.samplerate


def read(path: str, field: str, most_s: float) -> np.ndarray:
    """The first `most_s` seconds of `path`: float32 `[2, N]` at 48 kHz, clamped to [-1, 1].

    Mono is doubled; of more than two channels the first two are taken. N is the length in seconds times
    48,000, rounded up: one sample is audio, too. `field` is who asked, for messages.

    Raises MissingPrerequisite when there is no such file or it is not (or no longer) audio, UsageError
    when it holds no samples or NaN.
    """
    import numpy as np
    import soxr

    with _opened(path, field) as sound:
        rate, channels = sound.samplerate, sound.channels
        left_and_right = [0, min(1, channels - 1)]
        stream = soxr.ResampleStream(rate, SAMPLE_RATE, CHANNELS, dtype="float32")
        frames_read, pieces = 0, []
        while frames_read < most_s * rate:
            block = sound.read(BLOCK_VALUES // channels, dtype="float32", always_2d=True)
            if not len(block):
                break
            frames_read += len(block)
            pieces.append(stream.resample_chunk(block[:, left_and_right]))
    if not frames_read:
        raise UsageError(f"{field}: {path!r} holds no samples; give a recording that is not empty")
    # What the filter still holds, and enough after it that rounding up always finds a sample.
    rest = np.zeros((math.ceil(rate / SAMPLE_RATE), CHANNELS), np.float32)
    pieces.append(stream.resample_chunk(rest, last=True))
    samples = min(-(-frames_read * SAMPLE_RATE // rate), math.ceil(most_s * SAMPLE_RATE))
    wave = np.concatenate(pieces)[:samples].T
    if not np.isfinite(wave).all():
        raise UsageError(f"{field}: {path!r} holds NaN or infinite samples; export it again")
    return np.clip(wave, -1, 1, order="C")


@contextmanager
def _opened(path: str, field: str) -> Iterator[SoundFile]:
    import soundfile

    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise MissingPrerequisite(f"{field}: no file at {path!r}; give the path of a recording")
        # Opened here, so that the name's ending has no say in what the file is.
        with (
            Path(path).open("rb") as file,
            soundfile.SoundFile(file.fileno(), closefd=False) as sound,
        ):
            _check_header(sound, path, field)
            yield sound
    except OSError as error:
        raise MissingPrerequisite(f"{field}: {path!r} cannot be read: {error.strerror}") from None
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise MissingPrerequisite(
            f"{field}: {path!r} is no audio, or damaged ({reason}); use a whole file of {FORMATS}"
        ) from None


def _check_header(sound: SoundFile, path: str, field: str) -> None:
    low, high = RATES
    if not low <= sound.samplerate <= high:
        raise MissingPrerequisite(
            f"{field}: {path!r} says {sound.samplerate} samples per second; use {low} to {high}"
        )
    if sound.frames > LONGEST_S * sound.samplerate:
        raise MissingPrerequisite(
            f"{field}: {path!r} does not say how long it is; write it again, for instance as wav"
        )
    if not sound.frames:
        raise UsageError(f"{field}: {path!r} holds no samples; give a recording that is not empty")
