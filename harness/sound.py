"""Recordings in and out: one channel at the rate that is wanted, and 16-bit WAV. No torch import here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.errors import BenchError, MissingPrerequisite
from harness.files import add, regular, unwritten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from soundfile import LibsndfileError, SoundFile

MOST_CHANNELS = 32
BLOCK_VALUES = 2**18  # samples times channels in memory at once
REFUSED_AGAIN = 2**20  # bytes, where there was no room for some
STDERR = 2  # of the process, not Python's alone


def duration_s(name: str, path: str) -> float:
    """Seconds that the recording at `path` says it has. Raises MissingPrerequisite, about `name`."""
    import soundfile

    try:
        regular(Path(path))
        with speechless():
            info = soundfile.info(_named(path))
    except (OSError, soundfile.LibsndfileError) as error:
        raise _unreadable(name, path, error) from None
    if not 0 < info.channels <= MOST_CHANNELS or info.samplerate < 1:
        raise MissingPrerequisite(f"{name}: {path!r} has {info.channels} channels; use 1 to {MOST_CHANNELS}")
    return info.frames / info.samplerate


def read_mono(
    name: str, path: str, rate: int, *, least_s: float, most_s: float, quality: str = "HQ"
) -> NDArray[np.float32]:
    """Samples of the recording at `path`, its channels averaged, at `rate`, of its first `most_s` seconds.

    `quality`: soxr's. Raises MissingPrerequisite, about `name`, for a file that cannot be read, that is
    shorter than `least_s`, or that has samples which are not finite.
    """
    import numpy as np
    import soundfile
    import soxr

    duration_s(name, path)
    frames, pieces = 0, []
    try:
        with speechless(), soundfile.SoundFile(_named(path)) as file:
            stored_rate = file.samplerate
            stream = soxr.ResampleStream(stored_rate, rate, 1, dtype="float32", quality=quality)
            for block in _blocks(file, round(most_s * stored_rate)):
                mono = block.mean(axis=1)
                if not np.isfinite(mono).all():
                    raise MissingPrerequisite(
                        f"{name}: {path!r} has samples that are not numbers; name another"
                    )
                frames += len(mono)
                pieces.append(mono if stored_rate == rate else stream.resample_chunk(mono))
    except (OSError, soundfile.LibsndfileError) as error:
        raise _unreadable(name, path, error) from None
    if frames < least_s * stored_rate:
        raise MissingPrerequisite(f"{name}: {path!r} is under {least_s:g} s; name a longer recording")
    if stored_rate != rate:
        pieces.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return np.concatenate(pieces)


def save_wav(folder: Path, stem: str, samples: NDArray[Any], rate: int) -> Path:
    """Write `samples [N, channels]` as a 16-bit WAV to a new file of `folder`; returns where it is.

    Raises BenchError where it cannot be written.
    """
    return add_audio(folder / f"{stem}.wav", lambda file: write_wav(file, samples, rate, "PCM_16"))


def add_audio(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """As `add`, of audio that is written to an open file. Raises BenchError where it cannot be."""
    import soundfile

    def write_part(part: Path) -> None:
        with part.open("wb") as file:
            write(file)

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return add(path, write_part)
    except OSError as error:
        raise unwritten(f"{path}: cannot write audio", error) from None
    except soundfile.LibsndfileError as error:
        raise BenchError(f"{path}: cannot write audio: {error}") from None


def write_wav(file: BinaryIO, samples: NDArray[Any], rate: int, encoding: str) -> None:
    """Write `samples [N, channels]` in libsndfile's `encoding` to a file that is open and empty.

    Nothing is held back. Raises OSError where there is no room, as the kernel calls it.
    """
    import soundfile

    try:  # by descriptor, as a name need not be text
        soundfile.write(file.fileno(), samples, rate, encoding, format="WAV", closefd=False)
    except soundfile.LibsndfileError:  # it keeps the reason to itself: the kernel says it again
        file.seek(0, os.SEEK_END)
        file.write(bytes(REFUSED_AGAIN))
        file.flush()
        raise


@contextmanager
def speechless() -> Iterator[None]:
    """Inside, nothing is written to standard error: libmpg123 warns there of what a file lacks, line by line,
    and that is told by who reads it."""
    try:
        kept = os.dup(STDERR)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STDERR)
    try:
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)


def _blocks(file: SoundFile, frames: int) -> Iterator[NDArray[Any]]:
    """At most so many `frames` of `file` as they are read, fp32 `[n, channels]`: what its header says of its
    length and its channels takes no memory."""
    most = BLOCK_VALUES // file.channels
    while len(block := file.read(min(most, frames), dtype="float32", always_2d=True)):
        frames -= len(block)
        yield block


def _named(path: str) -> Any:  # soundfile is declared to take no bytes, and does
    """`path` as soundfile opens it, which encodes no name that is not text."""
    return path if os.name == "nt" else os.fsencode(path)


def _unreadable(name: str, path: str, error: OSError | LibsndfileError) -> MissingPrerequisite:
    reason = error if isinstance(error, OSError) else error.error_string  # without the path, as bytes
    return MissingPrerequisite(f"{name}: {path!r} cannot be read: {reason}")
