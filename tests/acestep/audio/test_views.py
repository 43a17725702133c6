"""Files whose header says no length, or another than they have: all that is whole is heard, and no more."""

import io
import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from acestep.audio.files import read
from acestep.audio.recordings import measure
from harness.adjustments import Adjustments
from harness.errors import UsageError
from harness.views import view

TAG = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
WHOLE_FRAMES = 3
SONGS = {  # samples per second, channels, kind of rate, how low it is: small frames can be cut in few ways
    "44.1 kHz": (44_100, 2, "CONSTANT", 0.9),
    "22.05 kHz, mono": (22_050, 1, "VARIABLE", 0.9),
    "8 kHz": (8_000, 2, "CONSTANT", 0.9),
}
MORE = {
    "44.1 kHz, mono": (44_100, 1, "VARIABLE", 0.9),
    "44.1 kHz, high": (44_100, 2, "VARIABLE", 0.2),
    "32 kHz": (32_000, 2, "VARIABLE", 0.0),
    "48 kHz": (48_000, 2, "AVERAGE", 0.2),
    "22.05 kHz": (22_050, 2, "CONSTANT", 0.1),
}


def noise(rate: int, channels: int, seconds: float = 1.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.05, (int(seconds * rate), channels))


def mp3(samples: np.ndarray, rate: int, mode: str = "VARIABLE", level: float = 0.5) -> bytes:
    """With a Xing header in its first frame."""
    buffer = io.BytesIO()
    soundfile.write(
        buffer, samples, rate, "MPEG_LAYER_III", format="MP3", bitrate_mode=mode, compression_level=level
    )
    return buffer.getvalue()


def without_header(data: bytes) -> bytes:
    return data[data.index(data[:2], 4) :]


def told(path: Path, data: bytes) -> tuple[float, list[str]]:
    """Seconds that can be read, and what is said of it."""
    path.write_bytes(data)
    recording, changes = measure(str(path), "src_audio", 60), Adjustments(strict=False)
    recording.note(changes, None)
    return recording.length_s, [change.reason for change in changes]


@pytest.mark.parametrize("tag", [b"", TAG], ids=["", "tagged"])
@pytest.mark.parametrize("header", [True, False], ids=["header", "none"])
@pytest.mark.parametrize("song", [*SONGS, *(pytest.param(name, marks=pytest.mark.nightly) for name in MORE)])
def test_wherever_an_mp3_is_cut_its_whole_frames_are_read(
    tmp_path: Path, song: str, header: bool, tag: bytes, capfd
):
    rate, channels, *how = (SONGS | MORE)[song]
    data = mp3(noise(rate, channels), rate, *how)
    data = tag + (data if header else without_header(data))
    frame = 1152 if rate >= 32_000 else 576
    path, samples, size = tmp_path / "a", [], len(data) // 2
    while not samples or samples[-1] < samples[0] + WHOLE_FRAMES * frame:
        path.write_bytes(data[:size])
        samples.append(round(measure(str(path), "f", 60).length_s * rate))
        size += 1
    assert {later - earlier for earlier, later in pairwise(samples)} == {0, frame}
    assert capfd.readouterr() == ("", "")  # mpg123 complains by itself


HEADERS = {  # name, flags, count of frames
    "VBRI": (b"VBRI", 15, 1),
    "no count": (b"Xing", 14, 1),
    "a count of none": (b"Xing", 15, 0),
}


@pytest.mark.parametrize("header", ["none", *HEADERS])
@pytest.mark.parametrize("loud_first", [True, False])
def test_an_mp3_without_a_count_of_frames_is_read_to_its_end(tmp_path: Path, loud_first: bool, header: str):
    """The first frames say nothing of the others' size, so a guess from them is far off, to either side."""
    parts = [4 * noise(44_100, 2), 0 * noise(44_100, 2, 5)]
    data = mp3(np.concatenate(parts if loud_first else parts[::-1]), 44_100)
    if header == "none":
        data = without_header(data)
    else:
        tag, (name, flags, count) = data.index(b"Xing"), HEADERS[header]
        data = data[:tag] + name + bytes([0, 0, 0, flags, 0, 0, 0, count]) + data[tag + 12 :]
    assert abs(soundfile.info(io.BytesIO(data)).duration - 6) > 1
    seconds, reasons = told(tmp_path / "a", data)
    assert seconds == pytest.approx(6, abs=0.1) and reasons == []


def test_two_mp3s_in_one_file_are_read_to_the_end(tmp_path: Path):
    seconds, (reason,) = told(tmp_path / "a", 2 * mp3(noise(44_100, 2, 4), 44_100))
    assert seconds == pytest.approx(8, abs=0.1) and reason == "says that it lasts 4.00 s"


def test_tags_around_an_mp3_are_no_music(tmp_path: Path):
    data = mp3(noise(44_100, 2, 4), 44_100)
    for music in (data, without_header(data)):
        seconds, reasons = told(tmp_path / "a", TAG + music + b"TAG" + bytes(125))
        assert seconds == pytest.approx(4, abs=0.1) and reasons == []


@pytest.mark.parametrize("kind", ["FLAC", "WAV", "AIFF"])
def test_a_tag_before_another_format_makes_it_no_mp3(tmp_path: Path, kind: str):
    """Samples have whatever bytes, those of a frame's header, too."""
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(44_100, 2, 4), 44_100, format=kind)
    data = TAG + buffer.getvalue()
    seconds, reasons = told(tmp_path / "a", data)
    assert seconds == pytest.approx(4, abs=1e-4) and reasons == []
    seconds, (reason,) = told(tmp_path / "a", data[: len(data) // 2])
    assert seconds == pytest.approx(2, abs=0.1) and reason.startswith("says that it lasts 4.00 s")


BEHIND = {
    "a little junk": (bytes(500), False),
    "much junk": (1_000 * b"junk.", True),
    "a block that is filled up": (bytes(100_000), False),
    "music of another kind": (without_header(mp3(noise(22_050, 1), 22_050)), True),
}


@pytest.mark.parametrize("name", BEHIND)
def test_what_is_behind_the_music_leaves_it_whole_and_is_told_where_it_may_be_music(
    tmp_path: Path, name: str
):
    behind, damaged = BEHIND[name]
    data = without_header(mp3(noise(44_100, 2), 44_100))
    alone, _ = told(tmp_path / "a", data)
    seconds, reasons = told(tmp_path / "a", data + behind)
    assert seconds == alone and reasons == ["is cut off, or damaged"] * damaged


def test_a_hole_is_where_an_mp3_ends_and_is_told(tmp_path: Path):
    data = without_header(mp3(noise(44_100, 2, 4), 44_100))
    half = len(data) // 2
    seconds, reasons = told(tmp_path / "a", data[:half] + bytes(5_000) + data[half + 5_000 :])
    assert seconds == pytest.approx(2, abs=0.1) and reasons == ["is cut off, or damaged"]


def unclosed_wav(samples: np.ndarray, size: int = 0, before: bytes = b"", behind: bytes = b"") -> bytes:
    """A WAV whose length was never filled in, with chunks before and behind its samples."""
    form = struct.pack("<HHIIHH", 1, 2, 44_100, 4 * 44_100, 4, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + before
    data = b"data" + struct.pack("<I", size) + (samples * 2**15).astype("<i2").tobytes()
    return b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunks + data + behind


LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf58.76.100\0"


@pytest.mark.parametrize("before", [b"", LIST], ids=["", "after a list"])
@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_a_wav_that_was_never_closed_is_read_to_the_end_of_the_file(tmp_path: Path, size: int, before: bytes):
    samples = noise(44_100, 2, 4)
    data = unclosed_wav(samples, size, before)
    seconds, reasons = told(tmp_path / "a", data)
    assert seconds == 4 and reasons == ["says that it lasts 0.00 s"] * (size == 0)
    wave = read(str(tmp_path / "a"), "f", 60)
    assert wave.shape == (2, 4 * 48_000) and wave.std() == pytest.approx(samples.std(), rel=0.05)
    seconds, _ = told(tmp_path / "a", data[: 2 * 44_100 * 4])
    assert seconds == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize("behind", [b"", LIST, LIST + b"id3 \x01\0\0\0x", LIST + b"id3 \x01\0\0\0x\0"])
def test_a_wav_of_nothing_but_chunks_is_empty(tmp_path: Path, behind: bytes):
    (tmp_path / "a").write_bytes(unclosed_wav(noise(44_100, 2, 0), behind=behind))
    for reader in (measure, read):
        with pytest.raises(UsageError, match="holds no samples"):
            reader(str(tmp_path / "a"), "f", 60)


def test_a_wav_of_chunks_without_end_is_not_read_by_each_of_them(tmp_path: Path):
    class Counted(io.FileIO):
        reads = 0

        def read(self, size: int = -1) -> bytes:
            self.reads += 1
            return super().read(size)

    with Counted(tmp_path / "a", "w+") as file:
        file.write(unclosed_wav(noise(44_100, 2, 0), behind=20_000 * b"LIST\0\0\0\0"))
        view(file)
        assert file.reads < 5_000


def loud_frame(data: bytes, place: int) -> bytes:
    """An MP3 in stereo, of which the frame at `place` or the next has the largest gain there can be."""
    place = data.index(data[:2], place) + 4  # its side information, in which it is the eight bits from 41 on
    side = int.from_bytes(data[place : place + 7], "big") | 0xFF << 7
    return data[:place] + side.to_bytes(7, "big") + data[place + 7 :]


def test_a_damaged_frame_of_an_mp3_is_silent_and_turns_nothing_down(tmp_path: Path, capfd):
    data = without_header(mp3(noise(44_100, 2, 4), 44_100, "CONSTANT"))
    (tmp_path / "whole").write_bytes(data)
    damaged = loud_frame(data, len(data) // 2)
    assert abs(soundfile.read(io.BytesIO(damaged))[0]).max() > 50  # the control
    seconds, (reason,) = told(tmp_path / "a", damaged)
    assert seconds == pytest.approx(4, abs=0.1) and reason.startswith("is damaged in 0.0")
    whole, wave = (read(str(tmp_path / name), "f", 60) for name in ("whole", "a"))
    same = abs(whole - wave).max(axis=0) < 1e-6
    assert wave.shape == whole.shape and 0.97 < same.mean() < 1 and wave.max() == whole.max()


def test_an_mp3_that_is_loud_throughout_is_turned_down(tmp_path: Path):
    seconds, (reason,) = told(tmp_path / "a", mp3(200 * noise(44_100, 2, 4), 44_100))
    assert seconds == pytest.approx(4, abs=0.1) and reason.startswith("peaks ")


def test_what_a_library_says_of_a_damaged_mp3_by_itself_is_not_heard(tmp_path: Path, capfd):
    data = mp3(noise(44_100, 2, 4), 44_100)
    path, half = tmp_path / "a", len(data) // 2
    path.write_bytes(data[:half] + np.random.default_rng(0).bytes(400) + data[half + 400 :])
    soundfile.read(io.BytesIO(path.read_bytes()))
    assert "Illegal Audio-MPEG-Header" in capfd.readouterr().err  # the control
    measure(str(path), "f", 60)
    read(str(path), "f", 60)
    assert capfd.readouterr() == ("", "")
