"""Recordings and requests that no musician would send: music, a plan or one clear line come out."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from short_music import generate

from acestep import GenerationConfig, GenerationParams, resolver
from acestep.engine import Engine
from acestep.setup import Setup
from acestep.tasks import TASKS, TRACKS
from acestep.text import audio_codes
from harness.accelerators import Accelerator
from harness.errors import BenchError, MissingPrerequisite, UsageError


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for name, samples in {
        "one sample": np.full((1, 2), 0.5),
        "zeros": np.zeros((48_000, 2)),
        "loud": np.full((4_800, 1), 1e30),
        "no samples": np.zeros((0, 2)),
        "nan": np.full((4_800, 2), np.nan),
        "one inf": np.r_[np.zeros((4_800, 2)), np.full((1, 2), np.inf)],
    }.items():
        soundfile.write(folder / f"{name}.wav", samples, 48_000, subtype="FLOAT")
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("la la la\n" * 500)
    noise = np.random.default_rng(1).normal(0, 0.1, (48_000, 2))
    soundfile.write(folder / "cut.flac", noise, 48_000)
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:10_000])  # within its first frame
    (folder / "folder.wav").mkdir()
    return folder


USES = [name for name, task in TASKS.items() if task.source] + ["reference"]
BAD = {
    "no samples.wav": (UsageError, "holds no samples"),
    "nan.wav": (UsageError, "holds NaN or infinite samples"),
    "one inf.wav": (UsageError, "holds NaN or infinite samples"),
    "empty.wav": (MissingPrerequisite, "is no audio, or damaged"),
    "text.wav": (MissingPrerequisite, "is no audio, or damaged"),
    "cut.flac": (MissingPrerequisite, "is no audio, or damaged"),
    "folder.wav": (MissingPrerequisite, "no file at"),
    "missing.wav": (MissingPrerequisite, "no file at"),
}


def used(use: str, path: Path) -> dict[str, str]:
    return (
        {"reference_audio": str(path)} if use == "reference" else {"task_type": use, "src_audio": str(path)}
    )


@pytest.mark.parametrize("use", USES)
def test_a_strange_recording_is_music_all_the_same(engine: Engine, recordings: Path, use: str):
    """As long as it is, which is a second at least."""
    seconds = 5.2 if use == "reference" else 1
    for name in ("one sample.wav", "zeros.wav", "loud.wav"):
        assert generate(engine, **used(use, recordings / name)).shape[1] == seconds * 48_000


@pytest.mark.parametrize("use", USES)
def test_a_bad_recording_is_refused_in_one_line(engine: Engine, recordings: Path, use: str):
    field = "reference_audio" if use == "reference" else "src_audio"
    for name, (error, words) in BAD.items():
        with pytest.raises(error, match=words) as caught:
            generate(engine, **used(use, recordings / name))
        message = str(caught.value)
        assert message.startswith(f"{field}: ") and name in message and message.isprintable()


def test_codes_of_a_strange_recording(engine: Engine, recordings: Path):
    assert len(audio_codes.parse(engine.audio_codes(recordings / "one sample.wav"))) == 1
    assert len(audio_codes.parse(engine.audio_codes(recordings / "zeros.wav"))) == 5
    for name, (error, words) in BAD.items():
        with pytest.raises(error, match=words):
            engine.audio_codes(recordings / name)


@pytest.mark.parametrize("use", ["cover", "reference"])
def test_what_the_header_shows_is_refused_before_anything_runs(engine: Engine, recordings: Path, use: str):
    for name in {*BAD} - {"nan.wav", "one inf.wav", "cut.flac"}:
        with pytest.raises(BenchError):
            engine.resolve(GenerationParams(**used(use, recordings / name)))


def test_a_region_around_a_single_sample(engine: Engine, recordings: Path):
    one = used("repaint", recordings / "one sample.wav")
    assert generate(engine, **one, repainting_start=-2.0, repainting_end=8.0).shape[1] == 10 * 48_000
    with pytest.raises(UsageError, match="repainting_start: 1 is past the end of the source"):
        generate(engine, **one, repainting_start=1.0)


# Requests at their limits


MADE = [
    Setup.choose("synthetic-tiny", accelerator=card, dit=dit, lm=lm)
    for card, dit, lm in [
        (Accelerator("cpu", "CPU", 16.0), None, "auto"),
        (Accelerator("cuda", "GTX 1650", 3.81), "acestep-v15-base", None),
        (Accelerator("cuda", "RTX 4090", 23.6), None, "auto"),
    ]
]
seconds = st.sampled_from([-600.0, -599.5, -1.0, -0.5, 0.0, 0.00001, 0.5, 1.0, 599.5, 600.0, 1200.0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.sampled_from(MADE),
    task=st.sampled_from([*TASKS]),
    name=st.sampled_from(["one sample.wav", "zeros.wav"]),
    fields=st.fixed_dictionaries(
        {},
        optional={
            "duration": st.sampled_from([None, 1.0, 600.0]),
            "repainting_start": seconds,
            "repainting_end": seconds,
            "inference_steps": st.sampled_from([1, 200]),
            "shift": st.sampled_from([0.1, 20.0]),
            "timesteps": st.sampled_from([(5e-324,), (1.0, 0.0), (1.0, 1.0 - 2**-53)]),
            "guidance_scale": st.sampled_from([None, 1.0, 30.0]),
            "cover_noise_strength": st.sampled_from([0.0, 5e-324, 1.0]),
            "thinking": st.booleans(),
            "audio_codes": st.sampled_from(["<|audio_code_0|>", audio_codes.join([5] * 3000)]),
            "complete_track_classes": st.sampled_from([(), tuple(TRACKS)]),
        },
    ),
    config=st.builds(GenerationConfig, st.sampled_from([1, 64])),
    strict=st.booleans(),
    no_limits=st.booleans(),
)
def test_what_is_valid_has_a_plan_or_a_reason(
    recordings: Path, made, task, name, fields, config, strict, no_limits
):
    setup = dataclasses.replace(made, strict=strict, limits=None if no_limits else made.limits)
    if TASKS[task].source and "audio_codes" not in fields:
        fields = fields | {"src_audio": str(recordings / name)}
    try:
        plan = resolver.resolve(GenerationParams(task_type=task, **fields), config, setup)
    except BenchError as error:
        assert str(error).isprintable() and len(str(error)) < 300
    else:
        limit = plan.setup.max_duration_s
        assert plan.params.duration is None or 1 <= plan.params.duration <= limit
        assert plan.config.batch_size <= plan.setup.max_batch
        assert plan.times and all(0 < time <= 1 for time in plan.times)
        assert dataclasses.replace(plan.params) == plan.params  # still a valid request


def test_the_oddest_schedules_still_make_music(engine: Engine):
    """Of the longest, which has the smallest steps, a tenth and both ends."""
    longest = engine.resolve(GenerationParams(inference_steps=200, shift=20.0)).times
    assert len(longest) == 200
    for times in ((5e-324,), (*longest[:3], *longest[3:-3:10], *longest[-3:])):
        assert generate(engine, duration=1.0, timesteps=times).shape[1] == 48_000
