"""A WAV that comes piece by piece is the file that would have been written of the whole."""

import io

import numpy as np
import pytest
import soundfile

from acestep.audio.wav_stream import STREAMED, WavStream

RATE, SAMPLES = 48_000, 1_001
WAVE = np.random.default_rng(0).uniform(-1.2, 1.2, (SAMPLES, 2)).astype(np.float32)


def written(audio_format: str) -> bytes:
    file = io.BytesIO()
    wav = WavStream(file, audio_format, RATE, 2, SAMPLES)
    for start in range(0, SAMPLES, 300):
        wav.write(WAVE[start : start + 300])
    return file.getvalue()


def test_16_bits_are_the_bytes_of_the_file():
    whole = io.BytesIO()
    soundfile.write(whole, WAVE, RATE, "PCM_16", format="WAV")
    assert written("wav") == whole.getvalue()


def test_floats_are_the_samples_as_they_are():
    read, rate = soundfile.read(io.BytesIO(written("wav32")), dtype="float32")
    assert rate == RATE and np.array_equal(read, WAVE) and np.abs(read).max() > 1


@pytest.mark.parametrize("audio_format", STREAMED)
def test_the_header_says_how_much_is_to_come(audio_format: str):
    written_bytes = written(audio_format)
    assert int.from_bytes(written_bytes[4:8], "little") == len(written_bytes) - 8
    assert int.from_bytes(written_bytes[40:44], "little") == len(written_bytes) - 44
