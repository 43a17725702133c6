"""Recordings in and out: blocks of samples as they are in a file, one channel at a rate, and WAV files.

A header is a claim, so nothing is sized by it. No torch import here.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from harness.errors import BenchError, MissingPrerequisite
from harness.files import add, regular, unwritten
from harness.views import View, view

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from soundfile import SoundFile

MOST_CHANNELS = 32
BLOCK_VALUES = 2**18  # samples times channels in memory at once
LONGEST_S = 1_000_000  # twelve days: a header that claims more knows no length
NOISE = 4.0  # which no music of an MP3 reaches, and a frame of it does that is damaged; 1 is full scale
MP3_FRAME = 1152  # samples, over which a frame reaches to either side of any
MOST_NOISE = 10 * MP3_FRAME  # samples of a block: where more are as loud, that is the music
# What libsndfile's log says where a header claims more bytes than there are, and claims that are none.
CLAIM = re.compile(
    r"^ *(?:data|SSND|BODY|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
UNKNOWN_BYTES = 2**31 - 2**16
REFUSED_AGAIN = 2**20  # bytes, where there was no room for some
STDERR = 2  # of the process, not Python's alone


class Length(NamedTuple):
    """Of a recording. `cut`: it had more seconds, and does not say how many."""

    seconds: float
    cut: bool


@contextmanager
def opened(path: str) -> Iterator[tuple[SoundFile, View | None]]:
    """The recording at `path`, to be read once, and the view of it that libsndfile reads where it needs one.

    Inside, nothing that libraries say by themselves is printed. Raises OSError and LibsndfileError.
    """
    import soundfile

    # Opened here, so that the name's ending has no say in what the file is.
    with speechless(), regular(Path(path)).open("rb", buffering=0) as file:
        seen = view(file)
        file.seek(0)
        source: Any = seen or file.fileno()
        with soundfile.SoundFile(source, closefd=False) as sound:
            yield sound, seen


def claimed(sound: SoundFile, seen: View | None) -> int | None:
    """Samples the header says there are; libsndfile counts only those that the file has room for.

    None where it says none.
    """
    if seen:
        return seen.claimed
    for claimed_bytes, held_bytes in CLAIM.findall(sound.extra_info):
        if int(claimed_bytes) < UNKNOWN_BYTES:
            return round(sound.frames * int(claimed_bytes) / max(int(held_bytes), 1))
    return sound.frames if sound.frames <= LONGEST_S * sound.samplerate else None


def blocks(sound: SoundFile, least: float) -> Iterator[NDArray[np.float32]]:
    """Samples as they are in a file, `[n, channels]`, until at least so many are read.

    They end where it does, is damaged, or is cut within a frame. Raises LibsndfileError where there are none.
    """
    import numpy as np
    import soundfile

    frames, more = 0, True
    while more and frames < least:
        block = np.full((BLOCK_VALUES // sound.channels, sound.channels), np.nan, np.float32)
        try:
            block = block[: len(sound.read(out=block))]
        except soundfile.LibsndfileError:
            missing = np.isnan(block[:, 0])  # libsndfile does not say how many it read, and fills no more
            block, more = block[: missing.argmax()] if missing.any() else block, False
            if not frames + len(block):
                raise
        if not len(block):
            return
        frames += len(block)
        yield block


def mute(sound: SoundFile, block: NDArray[np.float32]) -> int:
    """Silence what is damaged of samples `[n, channels]` of `sound`; returns how many are.

    Frames of an MP3 mostly have no checksum. One that is damaged may decode to hundreds of times full scale,
    by which all of the recording would be turned down.
    """
    import numpy as np

    if sound.format != "MP3":
        return 0
    loud = np.flatnonzero((np.abs(block) > NOISE).any(axis=1))
    if len(loud) > MOST_NOISE:
        return 0
    damaged = np.zeros(len(block), bool)
    for place in loud:
        damaged[max(place - MP3_FRAME, 0) : place + MP3_FRAME] = True
    block[damaged] = 0
    return int(damaged.sum())


def is_cut(claim: float | None, seen: View | None) -> bool:
    """Whether the last sample of a recording, read to its end, cannot be read; known where its header has no
    `claim` of how many there are."""
    return seen is not None and (seen.cut or (claim is None and not seen.ended))


def length(name: str, path: str) -> Length:
    """How long the recording at `path` says it is; of one that says nothing, or may have more, all that can
    be read counts. Raises MissingPrerequisite, about `name`."""
    with _opened(name, path) as (sound, seen):
        frames = samples = claimed(sound, seen)
        if frames is None or seen:
            frames = max(frames or 0, sum(map(len, blocks(sound, math.inf))))
        return Length(frames / sound.samplerate, is_cut(samples, seen))


def read_mono(
    name: str, path: str, rate: int, *, least_s: float, most_s: float, quality: str = "HQ"
) -> NDArray[np.float32]:
    """Samples of the recording at `path`, its channels averaged, at `rate`, of its first `most_s` seconds.

    `quality`: soxr's. Raises MissingPrerequisite, about `name`, for a file that cannot be read, that is
    shorter than `least_s`, that is an MP3 of damaged frames, or that has samples which are not finite.
    """
    import numpy as np
    import soxr

    frames, pieces = 0, []
    with _opened(name, path) as (sound, _):
        stored_rate = sound.samplerate
        most = round(most_s * stored_rate)
        stream = soxr.ResampleStream(stored_rate, rate, 1, dtype="float32", quality=quality)
        for block in blocks(sound, most):
            wanted = block[: most - frames]
            if mute(sound, wanted):
                raise MissingPrerequisite(
                    f"{name}: {path!r} is damaged, and noise far over full scale there; name a whole file"
                )
            mono = wanted.mean(axis=1)
            if not np.isfinite(mono).all():
                raise MissingPrerequisite(f"{name}: {path!r} has samples that are not numbers; name another")
            frames += len(mono)
            pieces.append(mono if stored_rate == rate else stream.resample_chunk(mono))
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


@contextmanager
def _opened(name: str, path: str) -> Iterator[tuple[SoundFile, View | None]]:
    """As `opened`. Raises MissingPrerequisite, about `name`, for what cannot be read."""
    import soundfile

    try:
        with opened(path) as (sound, seen):
            if not 0 < sound.channels <= MOST_CHANNELS:
                raise MissingPrerequisite(
                    f"{name}: {path!r} has {sound.channels} channels; use 1 to {MOST_CHANNELS}"
                )
            yield sound, seen
    except (OSError, soundfile.LibsndfileError) as error:
        reason = error if isinstance(error, OSError) else error.error_string  # without the path, as bytes
        raise MissingPrerequisite(f"{name}: {path!r} cannot be read: {reason}") from None
