"""Audio files of what was generated, each whole or not there at all.

    wav      16-bit PCM                  wav32   32-bit floats in a .wav: the samples as they are
    flac     the same, packed            mp3     at a constant rate of bits, 44.1 or 48 kHz
    opus     in Ogg                      aac     in MP4 (.m4a), by PyAV, an optional package

A file holds as many samples as the waveform. AAC codes 1,024 at a time: the header says how many of the last
are music, and where the encoder's delay ends.

What is compressed is encoded in memory: of a disk that fills up while an encoder closes its file, libsndfile
says nothing. The libraries are imported where they are used: they cost a third of a second. No torch import
here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from harness.sound import add_audio, write_wav

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from acestep.request import GenerationConfig

AAC_KBITS = 128  # per second
MP3_KBITS = (32, 320)  # of MPEG-1 layer III


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
    Raises BenchError when the place cannot be written.
    """
    kind = FORMATS[config.audio_format]
    path = stem.with_name(f"{stem.name}.{kind.suffix}")
    samples, rate, bits = audio.T.numpy(), sample_rate, ""
    options: dict[str, Any] = {}
    if config.audio_format == "mp3":
        samples, rate = resampled(samples, rate, config.mp3_sample_rate), config.mp3_sample_rate
        kbits = int(config.mp3_bitrate.removesuffix("k"))
        bits, options = f", {kbits} kbit/s", _bitrate(kbits)

    def write(file: BinaryIO) -> None:
        if kind.container == "WAV":
            write_wav(file, samples, rate, kind.encoding)
        else:
            file.write(_encoded(samples, rate, kind, options))

    place = add_audio(path, write)
    return place, f"{kind.container} {kind.encoding}{bits}, {rate} Hz"


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """`[N]` or `[N, channels]` at another rate, in samples per second, in its dtype; band-limited (soxr)."""
    import soxr

    return samples if rate == new_rate else soxr.resample(samples, rate, new_rate)


def _bitrate(kbits: int) -> dict[str, Any]:
    """How libsndfile is told of a constant rate: by its share of the way from the highest to the lowest."""
    low, high = MP3_KBITS
    return {"bitrate_mode": "CONSTANT", "compression_level": (high - kbits) / (high - low)}


def _encoded(samples: np.ndarray, rate: int, kind: Format, options: Mapping[str, Any]) -> memoryview:
    """The bytes of a compressed file of `samples [N, 2]`.

    Encoders call back for every piece they write, and what a signal raises in a callback is lost; in another
    thread none does.
    """
    encode = _aac if kind.encoding == "AAC" else partial(_by_libsndfile, kind=kind, options=options)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(encode, samples, rate).result()


def _by_libsndfile(samples: np.ndarray, rate: int, kind: Format, options: Mapping[str, Any]) -> memoryview:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, rate, kind.encoding, format=kind.container, **options)
    return file.getbuffer()


def _aac(samples: np.ndarray, rate: int) -> memoryview:
    """AAC-LC in MP4, whose header counts in samples, not in the milliseconds that are usual."""
    import av
    import numpy as np

    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movie_timescale": str(rate)}) as container:
        stream = container.add_stream("aac", rate=rate, layout="stereo")
        stream.bit_rate = AAC_KBITS * 1000
        planes = np.ascontiguousarray(samples.T)
        frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = rate, 0  # else it begins where the delay ends
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getbuffer()
