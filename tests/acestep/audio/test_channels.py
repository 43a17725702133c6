"""Downmix: every channel of every layout is heard where ITU-R BS.775 puts it, in every format and rate."""

import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.audio.files import SAMPLE_RATE, read
from acestep.audio.recordings import measure

A = 0.70710678  # -3 dB
MONO, STEREO = ([1], [1]), ([1, 0], [0, 1])
WAVE = {
    1: MONO,
    2: STEREO,
    3: ([1, 0, A], [0, 1, A]),
    4: ([1, 0, A, 0], [0, 1, 0, A]),
    5: ([1, 0, A, A, 0], [0, 1, A, 0, A]),
    6: ([1, 0, A, 0, A, 0], [0, 1, A, 0, 0, A]),
    7: ([1, 0, A, 0, 0.5, A, 0], [0, 1, A, 0, 0.5, 0, A]),
    8: ([1, 0, A, 0, A, 0, A, 0], [0, 1, A, 0, 0, A, 0, A]),
}
VORBIS = {
    1: MONO,
    2: STEREO,
    3: ([1, A, 0], [0, A, 1]),
    4: ([1, 0, A, 0], [0, 1, 0, A]),
    5: ([1, A, 0, A, 0], [0, A, 1, 0, A]),
    6: ([1, A, 0, A, 0, 0], [0, A, 1, 0, A, 0]),
    7: ([1, A, 0, A, 0, 0.5, 0], [0, A, 1, 0, A, 0.5, 0]),
    8: ([1, A, 0, A, 0, A, 0, 0], [0, A, 1, 0, A, 0, A, 0]),
}
FORMATS = {
    "WAV PCM_U8": WAVE,
    "WAV PCM_16": WAVE,
    "WAV PCM_24": WAVE,
    "WAV DOUBLE": WAVE,
    "WAVEX FLOAT": {n: WAVE[n] for n in range(1, 8)},  # libsndfile's mask for eight is "7.1, wide"
    "RF64 PCM_16": {n: WAVE[n] for n in range(1, 8)},
    "W64 PCM_32": WAVE,
    "FLAC PCM_16": WAVE,
    "FLAC PCM_24": WAVE,
    "OGG VORBIS": VORBIS,
    "AIFF PCM_16": {1: MONO, 2: STEREO},
    "CAF ALAC_16": {1: MONO, 2: STEREO},
    "MP3 MPEG_LAYER_III": {1: MONO, 2: STEREO},
}
MASKS = {
    "5.1, surround at the side": (0x60F, 6, WAVE[6]),
    "7.1": (0x63F, 8, WAVE[8]),
    "7.1, wide": (0xFF, 8, ([1, 0, A, 0, A, 0, 1, 0], [0, 1, A, 0, 0, A, 0, 1])),
    "4.0": (0x107, 4, ([1, 0, A, 0.5], [0, 1, A, 0.5])),
    "2.1": (0x00B, 3, ([1, 0, 0], [0, 1, 0])),
    "none": (0, 6, WAVE[6]),
}
NOBODY_KNOWS = {
    "fewer speakers than channels": (0x003, 4),
    "more of them": (0x63F, 6),
    "above the head": (0x503F, 8),
    "above the head, in place of the surround": (0x500F, 6),
    "nine": (0, 9),
}


AMPLITUDE = 0.08
RATES = [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000]


def tones(channels: int) -> np.ndarray:
    """Hertz, a tone for each channel: all so low that they are heard at every rate."""
    return 60.0 + 40 * np.arange(channels)


def samples(rate: int, channels: int) -> np.ndarray:
    """`[n, channels]`: 0.3 s in which every channel has a tone of its own."""
    return AMPLITUDE * np.sin(2 * np.pi * np.outer(np.arange(int(0.3 * rate)) / rate, tones(channels)))


def gains(wave: np.ndarray, channels: int) -> np.ndarray:
    """`[2, channels]`: how much of each channel is on either side of `wave [2, N]`."""
    angles = 2 * np.pi * np.outer(np.arange(wave.shape[1]) / SAMPLE_RATE, tones(channels))
    basis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    inside = slice(2400, -2400)  # a tone that starts and stops is no tone there
    parts = np.linalg.lstsq(basis[inside], wave[:, inside].T, rcond=None)[0]
    return np.hypot(parts[:channels], parts[channels:]).T / AMPLITUDE


@settings(deadline=None)
@given(kind=st.sampled_from([*FORMATS]), channels=st.integers(1, 8), rate=st.sampled_from(RATES))
def test_every_channel_is_heard_where_it_belongs(kind: str, channels: int, rate: int):
    file_format, subtype = kind.split()
    expected = FORMATS[kind].get(channels)
    if subtype in ("VORBIS", "MPEG_LAYER_III"):
        rate = min(max(rate, 16_000), 48_000)  # all that it can hold
    if expected is None and file_format in ("MP3", "WAVEX", "RF64"):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/tones"
        soundfile.write(path, samples(rate, channels), rate, subtype, format=file_format)
        wave, recording = read(path, "f", 60), measure(path, "f", 60)
    mean = [[1 / channels] * channels] * 2
    np.testing.assert_allclose(gains(wave, channels), expected or mean, atol=0.05)
    assert (recording.layout.speakers is None) == (expected is None)
    assert (recording.downmix is not None) == (expected is not None and channels > 2)


def wavex(path: Path, mask: int, channels: int) -> str:
    """The tones as 16-bit WAVE_FORMAT_EXTENSIBLE."""
    data = (samples(SAMPLE_RATE, channels) * 2**15).astype("<i2").tobytes()
    width, guid = 2 * channels, bytes.fromhex("0100000000001000800000aa00389b71")
    form = struct.pack(
        "<HHIIHHHHI", 65534, channels, SAMPLE_RATE, SAMPLE_RATE * width, width, 16, 22, 16, mask
    )
    body = b"WAVEfmt " + struct.pack("<I", 40) + form + guid + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return str(path)


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_says_which_channel_is_which(tmp_path: Path, name: str):
    mask, channels, expected = MASKS[name]
    heard = gains(read(wavex(tmp_path / "a.wav", mask, channels), "f", 60), channels)
    np.testing.assert_allclose(heard, expected, atol=0.01)
    others = [
        row for row in (*WAVE.values(), *VORBIS.values()) if len(row[0]) == channels and row != expected
    ]
    assert all(np.abs(heard - other).max() > 0.1 for other in others)


@pytest.mark.parametrize("name", NOBODY_KNOWS)
def test_channels_that_nobody_names_are_averaged(tmp_path: Path, name: str):
    mask, channels = NOBODY_KNOWS[name]
    path = wavex(tmp_path / "a.wav", mask, channels)
    np.testing.assert_allclose(gains(read(path, "f", 60), channels), 1 / channels, atol=0.01)
    assert measure(path, "f", 60).layout.speakers is None


def test_only_the_low_frequency_channel_is_left_out(tmp_path: Path):
    for channel, name in enumerate("FL FR FC LFE BL BR".split()):
        one = np.zeros((4_800, 6))
        one[:, channel] = samples(SAMPLE_RATE, 1)[:4_800, 0]
        path = str(tmp_path / f"{name}.wav")
        soundfile.write(path, one, SAMPLE_RATE)
        recording = measure(path, "src_audio", 60)
        assert recording.silent == (name == "LFE") == (not read(path, "src_audio", 60).any())
        assert "FL FR FC LFE BL BR" in str(recording.downmix) and "without LFE" in str(recording.downmix)
