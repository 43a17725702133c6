"""A WAV file written piece by piece, to where nothing can be written again: a pipe.

Its header says how long it will be, so what arrives whole is a file like any other, and the same as
`writing.save` makes of the whole. No torch import here.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, BinaryIO

from acestep.audio.writing import FORMATS

if TYPE_CHECKING:
    import numpy as np

STREAMED = tuple(name for name, kind in FORMATS.items() if kind.container == "WAV")
PCM, FLOAT = 1, 3  # the format tags of RIFF
WIDTHS = {"PCM_16": (PCM, 2), "FLOAT": (FLOAT, 4)}  # and bytes of a sample, by encoding


class WavStream:
    """A WAV of `samples` of so many `channels`, at `rate` per second, in an `audio_format` of `STREAMED`."""

    def __init__(self, file: BinaryIO, audio_format: str, rate: int, channels: int, samples: int):
        self._file = file
        self._rate = rate
        self._encoding = FORMATS[audio_format].encoding
        tag, width = WIDTHS[self._encoding]
        frame = channels * width
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * frame, frame, 8 * width)
        data = struct.pack("<4sI", b"data", samples * frame)
        size = len(b"WAVE" + form + data) + samples * frame
        file.write(struct.pack("<4sI4s", b"RIFF", size, b"WAVE") + form + data)

    def __str__(self) -> str:
        return f"WAV {self._encoding}, {self._rate} Hz"

    def write(self, samples: np.ndarray) -> None:
        """The next `[n, channels]`, to be read at once; 16 bits cut off what is beyond full scale."""
        import soundfile

        piece = io.BytesIO()
        soundfile.write(piece, samples, self._rate, self._encoding, endian="LITTLE", format="RAW")
        self._file.write(piece.getbuffer())
        self._file.flush()
