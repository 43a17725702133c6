"""Recordings: one channel at the rate that is wanted; what cannot be read is one line."""

import io
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from full_disk import REASON, room

from harness.errors import BenchError, MissingPrerequisite
from harness.sound import length, read_mono, save_wav

LIMITS = {"least_s": 0.1, "most_s": 1.0}


def test_channels_are_averaged_and_the_rate_is_changed(tmp_path):
    t = np.arange(44_100) / 44_100
    tone = np.sin(2 * np.pi * 440 * t)
    path = str(save_wav(tmp_path, "a", np.stack([tone / 2, tone / 4], axis=1), 44_100))
    assert length("audio", path).seconds == 1.0
    mono = read_mono("audio", path, 16_000, **LIMITS, quality="VHQ")
    expected = 0.375 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(mono - expected)[500:-500].max() < 1e-3
    again = save_wav(tmp_path, "a", (1_000 * tone).astype(np.int16)[:, None], 44_100)
    assert again.name == "a-2.wav"  # no file is replaced
    assert np.array_equal(soundfile.read(again, dtype="int16")[0], (1_000 * tone).astype(np.int16))


def test_many_channels_take_no_memory_at_once(tmp_path):
    """Read block by block it is, bit for bit, what it is in one piece."""
    path = tmp_path / "many.wav"
    sound = np.random.default_rng(0).integers(-9_000, 9_000, (96_000, 32), np.int16)
    soundfile.write(path, sound, 96_000)
    whole = soundfile.read(path, dtype="float32")[0]
    tracemalloc.start()
    mono, same_rate = (read_mono("audio", str(path), rate, **LIMITS) for rate in (16_000, 96_000))
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(same_rate, whole.mean(axis=1))
    assert np.array_equal(mono, soxr.resample(whole.mean(axis=1), 96_000, 16_000))
    assert most_bytes < whole.nbytes / 3


def test_what_is_no_recording_is_one_line(tmp_path):
    pipe, text, short, nan = (tmp_path / name for name in ("pipe.wav", "a.txt", "short.wav", "nan.wav"))
    os.mkfifo(pipe)
    text.write_text("no sound")
    soundfile.write(short, np.zeros(100), 16_000)
    soundfile.write(nan, np.full(8_000, np.nan), 16_000, "FLOAT")
    for path, message in (
        (pipe, "a pipe or a device"),
        (text, "cannot be read"),
        (short, "under 0.1 s"),
        (nan, "not numbers"),
        (tmp_path / "none.wav", "cannot be read"),
    ):
        with pytest.raises(MissingPrerequisite, match=f"audio: .*{message}") as raised:
            read_mono("audio", str(path), 16_000, **LIMITS)
        assert "\n" not in str(raised.value)


def test_what_a_library_says_of_a_file_by_itself_is_not_heard(tmp_path, capfd):
    """An MP3 whose header counts more bytes than there are."""
    path = str(tmp_path / "cut.mp3")
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 44_100), 44_100)
    os.truncate(path, Path(path).stat().st_size // 2)
    soundfile.info(path)
    assert "Warning: " in capfd.readouterr().err  # the control
    assert length("audio", path).seconds > 0.5
    read_mono("audio", path, 16_000, **LIMITS)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_a_full_disk_is_told_as_one(tmp_path):
    """libsndfile says no more than that the system has an error."""
    message = rf"{tmp_path}/a[.]wav: cannot write audio: {REASON}$"
    with room(1_000), pytest.raises(BenchError, match=message):
        save_wav(tmp_path, "a", np.zeros((4_000, 1), np.int16), 16_000)
    assert not [*tmp_path.iterdir()]


def test_a_name_that_is_no_text_is_a_name(tmp_path):
    plain = save_wav(tmp_path, "a", np.full((4_000, 1), 1_000, np.int16), 16_000)
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav")
    try:
        os.link(plain, name)
    except OSError:
        pytest.skip("names of this file system are text")
    assert length("audio", name).seconds == 0.25
    assert np.array_equal(*(read_mono("audio", path, 16_000, **LIMITS) for path in (name, str(plain))))
    os.truncate(name, 3)
    with pytest.raises(MissingPrerequisite, match=r"audio: .*cannot be read: ") as raised:
        read_mono("audio", name, 16_000, **LIMITS)
    assert "b'" not in str(raised.value)


def encoded(samples: np.ndarray, rate: int, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, **how)
    return file.getvalue()


NOISE = np.random.default_rng(0).normal(0, 0.05, (6 * 44_100, 2))
LOUD_FIRST = np.concatenate([4 * NOISE[:44_100], 0 * NOISE[44_100:]])
SIX_S = {"least_s": 0.1, "most_s": 60.0}


def without_a_length(kind: str) -> bytes:
    """Six seconds whose header does not say so: what was written to a pipe, or by who was killed."""
    if kind.startswith("mp3"):
        samples = LOUD_FIRST if kind == "mp3, loud first" else LOUD_FIRST[::-1]
        data = encoded(samples, 44_100, "MP3", bitrate_mode="VARIABLE", compression_level=0.5)
        return data[data.index(data[:2], 4) :]  # the first frame has the length
    data = bytearray(encoded(NOISE, 44_100, kind.upper()))
    if kind == "wav":
        data[40:44] = bytes(4)
    else:
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3, loud first", "mp3, loud last"])
def test_a_recording_whose_header_says_no_length_is_as_long_as_it_is(tmp_path, kind: str, capfd):
    path = tmp_path / "a"
    path.write_bytes(without_a_length(kind))
    assert length("audio", str(path)).seconds == pytest.approx(6, abs=0.1)
    assert len(read_mono("audio", str(path), 16_000, **SIX_S)) == pytest.approx(96_000, abs=1_600)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_a_recording_that_is_cut_says_how_long_it_was(tmp_path, kind: str):
    """So that who reads it can tell: of a WAV libsndfile counts what is there."""
    path = tmp_path / "a"
    data = encoded(NOISE, 44_100, kind)
    path.write_bytes(data[: len(data) // 2])
    assert length("audio", str(path)).seconds == pytest.approx(6, abs=0.1)
    assert len(read_mono("audio", str(path), 16_000, **SIX_S)) == pytest.approx(48_000, rel=0.1)


def test_a_recording_that_is_cut_and_never_said_how_long_it_was_is_told_as_cut(tmp_path):
    path = tmp_path / "a"
    data = encoded(NOISE, 44_100, "OGG")
    path.write_bytes(data)
    assert length("audio", str(path)) == (6, False)  # the control
    path.write_bytes(data[: len(data) // 2])
    seconds, cut = length("audio", str(path))
    assert cut
    assert seconds == pytest.approx(3, abs=0.3)


def test_a_damaged_frame_of_an_mp3_turns_nothing_down_in_silence(tmp_path):
    """The largest gain there can be, in the eight bits from 41 on of a frame's side information."""
    data = without_a_length("mp3, loud first")
    path = tmp_path / "a"
    path.write_bytes(data)
    assert abs(read_mono("audio", str(path), 16_000, **SIX_S)).max() < 1  # the control
    place = data.index(data[:2], 4_000) + 4
    side = int.from_bytes(data[place : place + 7], "big") | 0xFF << 7
    path.write_bytes(data[:place] + side.to_bytes(7, "big") + data[place + 7 :])
    with pytest.raises(MissingPrerequisite, match=r"audio: .* is damaged, and noise far over"):
        read_mono("audio", str(path), 16_000, **SIX_S)


def test_a_recording_is_decoded_once_and_no_further_than_is_wanted(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(without_a_length("mp3, loud first"))
    reads, read = [], soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, *rest, **how: reads.append(self) or read(self, *rest, **how)
    )
    read_mono("audio", str(path), 16_000, **LIMITS)
    assert len(reads) == 1
