"""Reading recordings: whatever a file holds, out come 48 kHz stereo or one line that says why not."""

import io
import os
import runpy
import struct
import tempfile
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from places import EXAMPLES

from acestep.audio.files import SAMPLE_RATE, read
from acestep.audio.recordings import measure
from harness.adjustments import Adjustments
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.sound import BLOCK_VALUES

RECORDINGS = EXAMPLES / "audio"
RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000]
FORMATS = {
    "wav": ("PCM_16", 1e-3),
    "wav float": ("FLOAT", 1e-3),
    "flac": ("PCM_16", 1e-3),
    "ogg": ("VORBIS", 0.1),
    "mp3": ("MPEG_LAYER_III", 0.1),
}  # subtype, and how much of a sine may be anything else


def sine(rate: int, samples: int, channels: int, hertz: float = 440.0) -> np.ndarray:
    """`[samples, channels]`, amplitude 0.5 in each."""
    return np.stack([0.5 * np.sin(2 * np.pi * hertz / rate * np.arange(samples))] * channels, axis=1)


def noise_beside(wave: np.ndarray, hertz: float) -> tuple[float, float]:
    """Amplitude of the sine in a mono wave at 48 kHz, and what is left without it, relative to it."""
    angle = 2 * np.pi * hertz / SAMPLE_RATE * np.arange(len(wave))
    basis = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    found = np.linalg.lstsq(basis, wave, rcond=None)[0]
    rest = wave - basis @ found
    return float(np.hypot(*found)), float(np.sqrt((rest**2).mean() / (wave**2).mean()))


def wav(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> str:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return str(path)


@settings(max_examples=60, deadline=None)
@given(
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2]),
    kind=st.sampled_from(list(FORMATS)),
    seconds=st.floats(0.3, 0.8),
)
def test_a_sine_stays_that_sine(rate: int, channels: int, kind: str, seconds: float):
    subtype, limit = FORMATS[kind]
    if kind == "mp3":  # all that it can hold
        rate, channels = min(rate, 48_000), min(channels, 2)
    samples = int(seconds * rate)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/sine.{kind.split()[0]}"
        soundfile.write(path, sine(rate, samples, channels), rate, subtype=subtype)
        assert measure(path, "src_audio", most_s=60).length_s == pytest.approx(samples / rate)
        wave = read(path, "src_audio", most_s=60)
    assert wave.dtype == np.float32 and wave.shape[0] == 2 and wave.flags.c_contiguous
    assert 0 <= wave.shape[1] - samples * SAMPLE_RATE / rate < 1
    for channel in wave[:, 4800:-4800]:  # a sine that starts and stops is no sine there
        amplitude, rest = noise_beside(channel, 440.0)
        assert rest < limit and amplitude == pytest.approx(0.5, rel=limit)
        assert noise_beside(channel, 450.0)[1] > 2 * limit


def test_samples_beyond_full_scale_are_turned_down_together(tmp_path: Path):
    loud = wav(tmp_path / "loud.wav", np.array([0.5, 2.0, -4.0, -0.25]))
    assert read(loud, "f", 60)[0].tolist() == [0.125, 0.5, -1.0, -0.0625]
    full = wav(tmp_path / "full.wav", np.array([0.5, 1.0, -1.0, -0.25]))
    assert read(full, "f", 60)[0].tolist() == [0.5, 1.0, -1.0, -0.25]


@settings(max_examples=20, deadline=None)
@given(rate=st.sampled_from([8_000, 44_100, 96_000]), gain=st.floats(0.9, 1e6))
def test_nothing_is_clipped(rate: int, gain: float):
    """Full-scale squares overshoot between their samples: the whole is turned down, and stays what it was."""
    with tempfile.TemporaryDirectory() as folder:
        square = np.sign(sine(rate, rate // 4, 2, 331.0)).astype(np.float32)
        quiet = read(wav(Path(folder) / "quiet.wav", 0.1 * square, rate), "f", 60)
        loud = read(wav(Path(folder) / "loud.wav", gain * square, rate), "f", 60)
    assert np.abs(loud).max() <= 1
    np.testing.assert_allclose(loud / np.abs(loud).max(), quiet / np.abs(quiet).max(), atol=1e-5)


@pytest.mark.parametrize("rate", [1_000, 8_000, 44_100, 48_000, 192_000, 768_000])
@pytest.mark.parametrize("samples", [1, 2, 7])
def test_a_single_sample_is_audio(tmp_path: Path, samples: int, rate: int):
    path = wav(tmp_path / "click.wav", np.full(samples, 0.5), rate)
    wave = read(path, "f", 60)
    assert wave.shape == (2, -(-samples * SAMPLE_RATE // rate)) and wave.any()


@given(most_s=st.floats(0.001, 1.5))
@settings(max_examples=30, deadline=None)
def test_a_crop_is_the_beginning(most_s: float):
    with tempfile.TemporaryDirectory() as folder:
        path = wav(Path(folder) / "a.wav", sine(44_100, 44_100, 2), 44_100)
        whole, part = read(path, "f", 60), read(path, "f", most_s)
    assert part.shape[1] == min(int(np.ceil(most_s * SAMPLE_RATE)), SAMPLE_RATE)
    # The filter reaches a few dozen samples past its place, and finds zeros beyond the crop.
    inside = max(part.shape[1] - 200, 0) if part.shape[1] < SAMPLE_RATE else SAMPLE_RATE
    np.testing.assert_allclose(part[:, :inside], whole[:, :inside], atol=1e-4)


def test_only_what_is_wanted_is_decoded(tmp_path: Path):
    """The end of the file is damaged, and nobody who wants the beginning finds out."""
    path = tmp_path / "cut.flac"
    soundfile.write(path, sine(44_100, 30 * 44_100, 2), 44_100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert read(str(path), "f", most_s=2).shape == (2, 2 * SAMPLE_RATE)
    assert measure(str(path), "f", most_s=2).claimed_s is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_flac_that_is_cut_is_read_to_where_it_is(tmp_path: Path, share: float):
    """To the last whole frame of 4,096 samples, and what is missing of its claim is told."""
    path = tmp_path / "cut.flac"
    whole = np.random.default_rng(7).normal(0, 0.1, (10 * SAMPLE_RATE, 2)).clip(-1, 1)  # as large everywhere
    soundfile.write(path, whole, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    wave = read(str(path), "src_audio", most_s=60)
    assert share * len(whole) - 2 * 4_096 < wave.shape[1] < share * len(whole)
    np.testing.assert_allclose(wave.T, whole[: wave.shape[1]], atol=2**-15)
    recording = measure(str(path), "src_audio", most_s=60)
    assert recording.length_s == wave.shape[1] / SAMPLE_RATE
    with pytest.raises(UsageError, match=r"says that it lasts 10\.00 s; give a whole file"):
        recording.note(Adjustments(strict=True), None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.wav", "no file at"),
        (".", "no file at"),
        ("pipe", "no file at"),
        ("x" * 300, "cannot be read|no file at"),
        ("\udcff\ud800.wav", "no file at"),
        ("text.wav", "is no audio, or damaged"),
        ("text.raw", "is no audio, or damaged"),
        ("text.mp3", "is no audio, or damaged"),
        ("bytes", "is no audio, or damaged"),
        ("two\nlines.wav", "is no audio, or damaged"),
    ],
)
@pytest.mark.parametrize("reader", [measure, read])
def test_what_is_no_recording_is_refused_in_one_line(tmp_path: Path, name: str, words: str, reader):
    os.mkfifo(tmp_path / "pipe")
    for text in ("text.wav", "text.raw", "text.mp3", "two\nlines.wav"):
        (tmp_path / text).write_text("la la la\n" * 500)
    (tmp_path / "bytes").touch()
    with pytest.raises(MissingPrerequisite, match=words) as caught:
        reader(f"{tmp_path}/{name}", "reference_audio", 60)
    message = str(caught.value)
    assert message.startswith("reference_audio: ") and "\n" not in message
    assert "wav" in message or "recording" in message or "cannot be read" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float, rate: int):
    samples = sine(rate, 2000, 2)
    samples[1500, 1] = bad
    with pytest.raises(UsageError, match=r"src_audio: .* holds NaN or infinite samples"):
        read(wav(tmp_path / "a.wav", samples, rate), "src_audio", 60)


def test_a_recording_of_nothing_is_refused(tmp_path: Path):
    path = wav(tmp_path / "empty.wav", np.zeros((0, 2)))
    for reader in (measure, read):
        with pytest.raises(UsageError, match=r"src_audio: .* holds no samples"):
            reader(path, "src_audio", 60)


def pcm_header(rate: int, channels: int, claimed_bytes: int, held: bytes) -> bytes:
    width = 2 * channels
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width % 2**32, width % 2**16, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", claimed_bytes) + held
    return b"RIFF" + struct.pack("<I", 2**32 - 1) + chunks


@pytest.mark.parametrize("rate", [0, 1, 999, 10_000_000, 2**31 - 1, 2**31, 2**32 - 1])
def test_absurd_rates_are_refused(tmp_path: Path, rate: int):
    (tmp_path / "a.wav").write_bytes(pcm_header(rate, 2, 400, bytes(400)))
    with pytest.raises(MissingPrerequisite, match=r"samples per second|is no audio, or damaged"):
        read(str(tmp_path / "a.wav"), "f", 600)


@cache
def flac_bytes(samples: int = 20_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sine(44_100, samples, 2), 44_100, format="FLAC")
    return buffer.getvalue()


def flac_claiming(frames: int, samples: int = 20_000) -> bytes:
    """The stream's length is the low 36 bits of the eight bytes at 18; 0 says that it is unknown."""
    data = bytearray(flac_bytes(samples))
    word = int.from_bytes(data[18:26], "big")
    assert word & (2**36 - 1) == samples
    data[18:26] = (word - samples + frames).to_bytes(8, "big")
    return bytes(data)


@pytest.mark.parametrize("claim", [0, 2**36 - 1])
@pytest.mark.parametrize("samples", [20_000, BLOCK_VALUES // 2, BLOCK_VALUES])
def test_a_flac_that_was_written_to_a_pipe_is_read_to_its_end(tmp_path: Path, samples: int, claim: int):
    """Its header says no length: nothing else than what can be read is known, and nothing is told."""
    (tmp_path / "a.flac").write_bytes(flac_claiming(claim, samples))
    assert read(str(tmp_path / "a.flac"), "f", 600).shape == (2, -(-samples * 480 // 441))
    recording, changes = measure(str(tmp_path / "a.flac"), "f", 600), Adjustments(strict=False)
    recording.note(changes, None)
    assert recording.length_s == samples / 44_100 and not changes


def test_nothing_is_sized_by_what_a_header_claims(tmp_path: Path):
    """Half a second of audio that says it is two days."""
    path = tmp_path / "a.flac"
    path.write_bytes(flac_claiming(2**33))
    assert measure(str(path), "f", 600).claimed_s == 2**33 / 44_100
    tracemalloc.start()
    held = read(str(path), "f", 1_000_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    path.write_bytes(flac_claiming(20_000))
    assert read(str(path), "f", 600).shape == held.shape == (2, -(-20_000 * 480 // 441))


def test_a_wav_that_claims_more_than_it_holds_gives_what_it_holds(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(pcm_header(48_000, 2, 2**32 - 16, bytes(400)))
    assert read(str(tmp_path / "a.wav"), "f", 600).shape == (2, 100)


def test_a_thousand_channels_are_read_in_bounded_memory(tmp_path: Path):
    held = bytes(2 * 1024 * 20_000)
    (tmp_path / "a.wav").write_bytes(pcm_header(48_000, 1024, len(held), held))
    tracemalloc.start()
    assert read(str(tmp_path / "a.wav"), "f", 600).shape == (2, 20_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 2**20  # whole it would be 82 million bytes


@cache
def good_bytes(kind: str) -> bytes:
    if kind == "flac":
        return flac_bytes()
    buffer = io.BytesIO()
    soundfile.write(buffer, sine(44_100, 20_000, 2), 44_100, format=kind.upper())
    return buffer.getvalue()


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["wav", "flac", "ogg", "mp3"]),
    length=st.floats(0, 1),
    place=st.floats(0, 1),
    junk=st.binary(max_size=40),
)
@example("wav", 0.0, 0.0, b"")
@example("mp3", 0.5, 1.0, b"")
@example("ogg", 0.5, 1.0, b"")
@example("flac", 0.999, 1.0, b"")
def test_a_damaged_file_is_heard_or_refused(kind: str, length: float, place: float, junk: bytes):
    """Cut anywhere and with junk written anywhere: audio or one line, never a crash or another error."""
    data = bytearray(good_bytes(kind))
    at = int(place * len(data))
    data[at : at + len(junk)] = junk
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged.{kind}"
        path.write_bytes(data[: int(length * len(data))])
        try:
            wave = read(str(path), "src_audio", most_s=2)
        except BenchError as error:
            assert str(error).startswith("src_audio: ") and "\n" not in str(error)
        else:
            assert wave.shape[0] == 2 and 1 <= wave.shape[1] <= 2 * SAMPLE_RATE
            assert np.abs(wave).max() <= 1


def test_the_examples_are_what_their_script_makes():
    script = runpy.run_path(str(RECORDINGS / "make_loop.py"))
    samples, rate = soundfile.read(RECORDINGS / "loop.flac")
    np.testing.assert_allclose(samples, script["loop"](), atol=2**-15)
    assert rate == 44_100 and read(str(RECORDINGS / "loop.flac"), "f", 60).shape == (2, 8 * SAMPLE_RATE)
    assert read(str(RECORDINGS / "voice.ogg"), "f", 60).shape == (2, len(script["voice"]()) * 3)
