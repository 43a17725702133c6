"""Recordings, measured: the length that can be read counts, and what is not heard as it stands is told."""

import io
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from soxr import resample

from acestep import GenerationConfig, GenerationParams, resolver
from acestep.audio.files import SAMPLE_RATE, read
from acestep.audio.recordings import Recording, measure
from acestep.setup import Setup
from harness.accelerators import Accelerator
from harness.adjustments import Adjustments
from harness.errors import MissingPrerequisite, UsageError

RATE = 44_100
SECONDS = 4


def noise(seconds: float = SECONDS, rate: int = RATE, level: float = 0.05) -> np.ndarray:
    return np.random.default_rng(1).normal(0, level, (round(seconds * rate), 2)).astype("f")


def encoded(kind: str, samples: np.ndarray, **settings) -> bytes:
    """`kind`: format and subtype."""
    buffer = io.BytesIO()
    file_format, subtype = kind.split()
    soundfile.write(
        buffer, samples, 48_000 if subtype == "OPUS" else RATE, subtype, format=file_format, **settings
    )
    return buffer.getvalue()


def mp3(samples: np.ndarray) -> bytes:
    """With a variable bit rate, and a Xing header in its first frame."""
    return encoded("MP3 MPEG_LAYER_III", samples, bitrate_mode="VARIABLE", compression_level=0.5)


def without_xing(data: bytes) -> bytes:
    assert b"Xing" in data[:64]
    return data[data.index(data[:2], 4) :]


def measured(path: Path, data: bytes) -> tuple[Recording, list[str]]:
    path.write_bytes(data)
    recording, changes = measure(str(path), "src_audio", 60), Adjustments(strict=False)
    recording.note(changes, "it all the same")
    read_s = read(str(path), "src_audio", 60).shape[1] / SAMPLE_RATE
    assert recording.length_s == pytest.approx(read_s, abs=1 / SAMPLE_RATE)
    return recording, [change.reason for change in changes]


WHOLE = ["WAV PCM_16", "WAV FLOAT", "WAV IMA_ADPCM", "WAVEX PCM_24", "AIFF PCM_16", "AU PCM_16", "W64 PCM_16"]
WHOLE += ["RF64 PCM_16", "FLAC PCM_16", "CAF ALAC_16", "OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III"]
CUT: dict[str, str] = dict.fromkeys(WHOLE[:2] + WHOLE[3:7] + WHOLE[-1:], "says that it lasts 4")
CUT |= {"OGG VORBIS": "is cut off", "OGG OPUS": "is cut off"}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_file_is_as_long_as_it_says(tmp_path: Path, kind: str):
    recording, reasons = measured(
        tmp_path / "a", encoded(kind, noise(rate=48_000 if "OPUS" in kind else RATE))
    )
    assert recording.length_s == pytest.approx(SECONDS, abs=0.03) and reasons == []


@pytest.mark.parametrize("kind", CUT)
@pytest.mark.parametrize("share", [0.9, 0.5, 0.25])
def test_a_cut_file_gives_what_it_holds_and_says_so(tmp_path: Path, kind: str, share: float):
    data = encoded(kind, noise(rate=48_000 if "OPUS" in kind else RATE))
    recording, (reason,) = measured(tmp_path / "a", data[: round(share * len(data))])
    assert share * SECONDS - 0.3 < recording.length_s < share * SECONDS + 0.1
    assert reason.startswith(CUT[kind])


def test_an_ogg_cut_in_its_first_page_of_music_gives_the_packets_that_are_whole(tmp_path: Path):
    data = encoded("OGG VORBIS", noise())
    first = data.index(b"OggS", data.index(b"OggS", 1) + 1)
    assert data.index(b"OggS", first + 1) > first + 3000
    recording, reasons = measured(tmp_path / "a", data[: first + 3000])
    assert recording.length_s > 0.05 and reasons == ["is cut off, or damaged"]
    whole = soundfile.read(io.BytesIO(data), dtype="float32")[0]
    heard = soundfile.read(io.BytesIO(data[: first + 3000]))[0]
    assert not len(heard)  # the control: without the page mended
    wave = read(str(tmp_path / "a"), "f", 60)[0]
    beginning = resample(whole, RATE, SAMPLE_RATE)[: len(wave), 0]
    np.testing.assert_allclose(wave[:-500], beginning[:-500], atol=1e-3)  # the last block fades


def test_only_what_is_wanted_is_measured(tmp_path: Path):
    samples = noise()
    samples[3 * RATE :] = 3.0
    path = str(tmp_path / "a.wav")
    soundfile.write(
        path, np.repeat(samples, 4, axis=0), 4 * RATE, subtype="FLOAT"
    )  # blocks of less than a second
    assert measure(path, "f", 1).peak < 1 < measure(path, "f", 60).peak
    assert measure(path, "f", 1).length_s == measure(path, "f", 60).length_s == SECONDS


LEVELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], list[str]]] = {
    "as it is": (lambda wave: wave, []),
    "zeros": (lambda wave: 0 * wave, [r"is silent"]),
    "next to nothing": (lambda wave: 1e-7 * wave, [r"is silent"]),
    "hardly anything": (lambda wave: 1e-3 * wave, []),
    "a constant": (lambda wave: 0 * wave + 0.5, [r"has nothing to hear"]),
    "a constant and music": (lambda wave: wave + 0.5, []),
    "one side": (lambda wave: wave * [1, 0], []),
    "full scale": (lambda wave: wave / np.abs(wave).max(), []),
    "a float mix": (
        lambda wave: np.sign(wave) * 4,
        [r"peaks 12\.0 dB over full scale \(100% of its samples"],
    ),
    "one sample over": (
        lambda wave: np.r_[wave, [[1.1, 0.0]]],
        [r"peaks 0\.8 dB over full scale \(0\.000\d+% of"],
    ),
    "integers as floats": (lambda wave: 32_768 * np.sign(wave), [r"peaks 90\.3 dB over full scale"]),
    "loud and constant": (lambda wave: 0 * wave + 2, [r"peaks 6\.0 dB", r"has nothing to hear"]),
}


@pytest.mark.parametrize("name", LEVELS)
def test_silence_and_samples_beyond_full_scale_are_told(tmp_path: Path, name: str):
    change, expected = LEVELS[name]
    _, reasons = measured(tmp_path / "a", encoded("WAV FLOAT", change(noise())))
    assert len(reasons) == len(expected) and all(map(re.match, expected, reasons))


def test_a_strict_setup_refuses_what_is_told(tmp_path: Path):
    cases = {"cut": mp3(noise())[:9_000], "silent": encoded("WAV PCM_16", 0 * noise())}
    cases |= {
        "loud": encoded("WAV FLOAT", 30 * noise()),
        "unknown": encoded("AIFF PCM_16", np.tile(noise(), 3)),
    }
    strict = Setup.choose("synthetic-tiny", accelerator=Accelerator("cpu", "CPU", 16.0), strict=True)
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        for field, use in {
            "src_audio": {"task_type": "cover", "src_audio": str(path)},
            "reference_audio": {"reference_audio": (str(path),), "bpm": 90, "keyscale": "C major"},
        }.items():
            with pytest.raises(UsageError, match=rf"{field}: .*{name} .*\(strict\)$"):
                resolver.resolve(
                    GenerationParams(duration=4 if field == "src_audio" else 6, **use),
                    GenerationConfig(),
                    strict,
                )


def test_a_silent_reference_is_none_and_loads_nothing(tmp_path: Path):
    for name, level in {"silent": 0.0, "music": 1.0}.items():
        (tmp_path / name).write_bytes(encoded("WAV PCM_16", level * noise()))
    setup = Setup.choose("synthetic-tiny", accelerator=Accelerator("cpu", "CPU", 16.0))
    paths = tuple(str(tmp_path / name) for name in ("silent", "music"))
    both = resolver.resolve(GenerationParams(reference_audio=paths), GenerationConfig(), setup)
    assert both.params.reference_audio == paths[1:] and "timbre" in both.components
    assert [(change.field, change.requested, change.applied) for change in both.adjustments] == [
        ("reference_audio", paths[0], None)
    ]
    silent = resolver.resolve(GenerationParams(reference_audio=paths[:1]), GenerationConfig(), setup)
    assert not {"timbre", "vae_encoder"} & {*silent.components}


@settings(deadline=None)
@given(
    kind=st.sampled_from(["OGG VORBIS", "OGG OPUS", "MP3 MPEG_LAYER_III"]),
    keep=st.integers(1, 30_000),
    xing=st.booleans(),
)
def test_wherever_a_file_is_cut_more_bytes_are_no_less_music(
    tmp_path_factory, kind: str, keep: int, xing: bool
):
    data = COMPRESSED[kind] if xing or not kind.startswith("MP3") else without_xing(COMPRESSED[kind])
    path = tmp_path_factory.getbasetemp() / "cut"
    lengths = []
    for size in (keep, keep + 4_000):
        path.write_bytes(data[:size])
        try:
            lengths.append(measure(str(path), "f", 60).length_s)
        except (MissingPrerequisite, UsageError):
            lengths.append(0.0)
    assert lengths[0] <= lengths[1]


COMPRESSED = {
    "OGG VORBIS": encoded("OGG VORBIS", noise()),
    "OGG OPUS": encoded("OGG OPUS", noise(rate=48_000)),
    "MP3 MPEG_LAYER_III": mp3(noise()),
}


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/full", "pipe", "."])
def test_what_has_no_end_is_not_opened(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / "pipe")
    refusal: list[str] = []

    def look() -> None:
        for reader in (measure, read):
            with pytest.raises(MissingPrerequisite, match=r"f: no file at .* \(it is a ") as caught:
                reader(str(tmp_path / name), "f", 60)
            refusal.append(str(caught.value))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(timeout=60)
    assert len(refusal) == 2
