"""Audio files of what was generated, each whole or not there at all.

    wav      16-bit PCM                  wav32   32-bit floats in a .wav: the samples as they are
    flac     the same, packed            mp3     at a constant rate of bits, 44.1 or 48 kHz
    opus     in Ogg                      aac     in MP4 (.m4a), by PyAV, an optional package

A file holds as many samples as the waveform. AAC codes 1,024 at a time: the header says how many of the last
are music, and where the encoder's delay ends.

Files are encoded in memory: when a disk fills up while an encoder closes its file, libsndfile does not say.
The libraries are imported where they are used: they cost a third of a second. No torch import here.
"""

from __future__ import annotations

import errno
import io
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import MissingPrerequisite
from harness.files import add

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from acestep.request import GenerationConfig

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
AAC_BITS_PER_S = 128_000
MP3_KBITS = (32, 320)  # per second, of MPEG-1 layer III


@dataclass(frozen=True, slots=True)
class Format:
    """`suffix` of its files, and how libsndfile names `container` and `encoding`."""

    suffix: str
    container: str
    encoding: str


FORMATS = {
    "wav": Format("wav", "WAV", "PCM_16"),
    "flac": Format("flac", "FLAC", "PCM_16"),
    "mp3": Format("mp3", "MP3", "MPEG_LAYER_III"),
    "opus": Format("opus", "OGG", "OPUS"),
    "aac": Format("m4a", "MP4", "AAC"),  # which libsndfile does not write
    "wav32": Format("wav", "WAV", "FLOAT"),
}


def unavailable(name: str) -> str | None:
    """Why files of the format `name` cannot be written here, or None. Continues a sentence about it."""
    if name == "aac" and find_spec("av") is None:
        return "needs PyAV, which is not installed; pip install '.[aac]'"
    if name in ("mp3", "opus"):
        import soundfile

        if not soundfile.check_format(FORMATS[name].container, FORMATS[name].encoding):
            version = soundfile.__libsndfile_version__
            return f"needs libsndfile 1.1 or later, and this is {version}; pip install --upgrade soundfile"
    return None


def load_libraries(name: str) -> None:
    """Import what writes files of the format `name`, so that no stage pays for it."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401

    if name == "aac":
        import av  # noqa: F401


def save(audio: Tensor, stem: Path, sample_rate: int, config: GenerationConfig) -> tuple[Path, str]:
    """Write `[2, N]` in [-1, 1] as `config` says, to a new file whose name begins with that of `stem`.

    Returns where it is, with a number behind the name where that is another file's, and what is in it.
    Raises MissingPrerequisite when the place cannot be written.
    """
    kind = FORMATS[config.audio_format]
    path = stem.with_name(f"{stem.name}.{kind.suffix}")
    data, rate, bits = _encoded(audio.T.numpy(), sample_rate, config)
    contents = f"{kind.container} {kind.encoding}{bits}, {rate} Hz"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return add(path, lambda part: part.write_bytes(data)), contents
    except OSError as error:
        hint = "; is the disk full?" if error.errno in FULL else ""
        raise MissingPrerequisite(f"{path}: cannot write audio: {error}{hint}") from None


def _encoded(samples: np.ndarray, rate: int, config: GenerationConfig) -> tuple[memoryview, int, str]:
    """A file of `samples [N, 2]`, their rate in it, and its rate of bits where it has one to speak of."""
    kind = FORMATS[config.audio_format]
    if config.audio_format == "aac":
        return _aac(samples, rate), rate, f", {AAC_BITS_PER_S // 1000} kbit/s"
    import soundfile

    options: dict[str, Any] = {}
    bits = ""
    if config.audio_format == "mp3":
        import soxr

        low, high = MP3_KBITS
        kbits = int(config.mp3_bitrate.removesuffix("k"))
        options = {"bitrate_mode": "CONSTANT", "compression_level": (high - kbits) / (high - low)}
        bits = f", {kbits} kbit/s"
        if config.mp3_sample_rate != rate:
            samples, rate = soxr.resample(samples, rate, config.mp3_sample_rate), config.mp3_sample_rate
    file = io.BytesIO()
    soundfile.write(file, samples, rate, kind.encoding, format=kind.container, **options)
    return file.getbuffer(), rate, bits


def _aac(samples: np.ndarray, rate: int) -> memoryview:
    """AAC-LC in MP4, whose header counts in samples, not in the milliseconds that are usual."""
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movie_timescale": str(rate)}) as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        stream.bit_rate = AAC_BITS_PER_S
        planes = np.ascontiguousarray(samples.T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0  # else it begins where the delay ends
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getbuffer()
