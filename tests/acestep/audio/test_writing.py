"""Audio files: what is in them, and that they are whole or not there."""

import io
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from full_disk import REASON, room

from acestep.audio import writing
from acestep.request import AUDIO_FORMATS, MP3_BITRATES, MP3_SAMPLE_RATES, GenerationConfig
from harness.errors import BenchError, MissingPrerequisite

RATE = 48_000
SAMPLES = 24_777  # no whole number of frames of any codec
NOISE = torch.rand(2, 1, SAMPLES + 62, generator=torch.Generator().manual_seed(0)) - 0.5
WAVE = torch.nn.functional.conv1d(NOISE, torch.hann_window(64)[None, None, 1:] / 16)[:, 0]  # below 1.5 kHz
ERRORS = {"wav": 3e-4, "flac": 2e-4, "wav32": 0.0, "mp3": 0.2, "opus": 0.2, "aac": 0.2}  # RMS, relative
NEEDS_PYAV = pytest.mark.skipif(find_spec("av") is None, reason="PyAV is not installed; pip install '.[aac]'")
FORMATS = [pytest.param(name, marks=[NEEDS_PYAV] * (name == "aac")) for name in AUDIO_FORMATS]


def save(folder: Path, audio_format: str, wave: torch.Tensor = WAVE, **more) -> tuple[Path, str]:
    return writing.save(
        wave, folder / "new" / "song", RATE, GenerationConfig(audio_format=audio_format, **more)
    )


def read(path: Path) -> tuple[np.ndarray, int]:
    """Samples `[N, 2]` and their rate, as a player has them."""
    if path.suffix != ".m4a":
        return soundfile.read(path, dtype="float32", always_2d=True)
    import av

    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        frames = np.concatenate([frame.to_ndarray() for frame in file.decode(stream)], axis=1)
        assert stream.duration is not None and stream.time_base is not None
        return frames.T[: round(stream.duration * stream.time_base * stream.rate)], stream.rate


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """RMS of the difference, relative."""
    return float(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


def test_every_format_of_a_request_is_written():
    assert {*writing.FORMATS} == {*AUDIO_FORMATS} == {*ERRORS}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_holds_the_samples_and_says_what_they_are(tmp_path: Path, name: str):
    path, contents = save(tmp_path, name)
    assert [*path.parent.iterdir()] == [path]
    assert path.name == {"aac": "song.m4a", "wav32": "song.wav"}.get(name, f"song.{name}")
    samples, rate = read(path)
    assert rate == RATE and contents.endswith(f", {RATE} Hz")
    assert samples.shape == (SAMPLES, 2)
    middle = WAVE.numpy().T[10:-10]
    shifted = {
        shift: distance(samples[10 + shift : len(middle) + 10 + shift], middle) for shift in range(-9, 10)
    }
    assert distance(samples, WAVE.numpy().T) <= ERRORS[name]
    assert min(shifted, key=shifted.__getitem__) == 0  # no delay of an encoder
    if path.suffix != ".m4a":
        info = soundfile.info(path)
        assert contents.startswith(f"{info.format} {info.subtype},")


@pytest.mark.parametrize("bitrate", MP3_BITRATES)
@pytest.mark.parametrize("rate", MP3_SAMPLE_RATES)
def test_an_mp3_has_the_rates_that_were_asked_for(tmp_path: Path, bitrate: str, rate: int):
    noise = torch.rand(2, RATE, generator=torch.Generator().manual_seed(0)) - 0.5
    path, contents = save(tmp_path, "mp3", noise, mp3_bitrate=bitrate, mp3_sample_rate=rate)
    info = soundfile.info(path)
    assert info.samplerate == rate and info.frames == rate
    assert path.stat().st_size * 8 == pytest.approx(int(bitrate[:-1]) * 1000, rel=0.08)  # frames at both ends
    assert contents == f"MP3 MPEG_LAYER_III, {bitrate[:-1]} kbit/s, {rate} Hz"


@pytest.mark.parametrize("name", FORMATS)
def test_a_disk_that_fills_up_with_the_last_byte_leaves_nothing(tmp_path: Path, name: str):
    """While an encoder closes its file libsndfile notices nothing."""
    path, _ = save(tmp_path, name)
    room_bytes = path.stat().st_size - 100  # Ogg's and MP4's headers vary by less
    path.unlink()
    message = f"{path.name}: cannot write audio: {REASON}$"
    with room(room_bytes), pytest.raises(BenchError, match=message) as raised:
        save(tmp_path, name)
    assert raised.type is BenchError  # the run failed, and nothing is missing
    assert not [*path.parent.iterdir()]


@pytest.mark.parametrize("name", FORMATS)
def test_no_file_is_replaced(tmp_path: Path, name: str):
    first, _ = save(tmp_path, name)
    data = first.read_bytes()
    second, _ = save(tmp_path, name)
    assert second.name == f"song-2{first.suffix}" and first.read_bytes() == data


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "new").touch()
    with pytest.raises(MissingPrerequisite, match=r"song\.wav: cannot write audio: .*exists"):
        save(tmp_path, "wav")


@pytest.mark.parametrize("name", ["wav", "flac"])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    def fail(file: int | io.BytesIO, *_: object, **__: object) -> None:
        os.write(file, b"half of it") if isinstance(file, int) else file.write(b"half of it")
        raise soundfile.LibsndfileError(2)

    monkeypatch.setattr(soundfile, "write", fail)
    with pytest.raises(BenchError, match=r"new/song[.].*: cannot write audio: "):
        save(tmp_path, name)
    assert not [*(tmp_path / "new").iterdir()]


@pytest.mark.parametrize("name", FORMATS[1:-1])
def test_an_interrupt_within_an_encoder_is_one(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd
):
    """Of what is raised where a library calls back, the library says that writing failed."""

    signals = [signal.SIGINT]

    class Interrupted(io.BytesIO):
        def write(self, data: Any) -> int:
            while signals:
                signal.raise_signal(signals.pop())
            return super().write(data)

    monkeypatch.setattr(writing.io, "BytesIO", Interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, name)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not [*(tmp_path / "new").iterdir()] and capfd.readouterr() == ("", "")
