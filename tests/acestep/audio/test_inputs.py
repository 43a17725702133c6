"""The recordings of a request, encoded: what is kept of their waveforms, and for whom."""

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from acestep.audio.inputs import AudioInputs
from acestep.engine import Engine
from acestep.request import GenerationConfig, GenerationParams

S = 48_000


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    """Six seconds and a hundred samples of noise at 48 kHz."""
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (6 * S + 100, 2))
    soundfile.write(path, noise, S, subtype="FLOAT")
    return str(path)


def inputs(engine: Engine, song: str, task: str, **fields) -> AudioInputs:
    params = GenerationParams(task_type=task, src_audio=song, **fields)
    with torch.inference_mode():
        return engine.generation(engine.resolve(params, GenerationConfig(seeds=(1,)))).encode_inputs()


@pytest.mark.parametrize("task", ["repaint", "lego"])
@pytest.mark.parametrize(
    ("start", "end", "before", "after", "region"),
    [
        (2.0, 4.0, 0, 0, (2 * S, 4 * S)),
        (1.00001, 4.0, 0, 0, (S, 4 * S)),  # half a sample is none
        (2.0, -1.0, 0, 0, (2 * S, 6 * S + 100)),
        (-1.5, 4.0, 72_000, 0, (0, 5.5 * S)),
        (2.0, 7.5, 0, 1.5 * S - 100, (2 * S, 7.5 * S)),
    ],
)
def test_a_repaint_keeps_what_it_encoded_and_the_samples_to_paint(
    engine: Engine, song: str, task: str, start, end, before, after, region
):
    found = inputs(engine, song, task, repainting_start=start, repainting_end=end)
    recording = torch.from_numpy(soundfile.read(song, dtype="float32")[0].T)
    assert found.wave is not None and found.wave.dtype == torch.float32 and found.wave.device.type == "cpu"
    assert torch.equal(found.wave, F.pad(recording, (before, int(after))))
    assert found.wave_region == region
    assert found.frames == found.wave.shape[1] // 1920


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("repaint", {"repainting_end": 4.0, "repaint_mode": "aggressive"}),
        ("repaint", {}),
        ("repaint", {"repainting_start": -2.0, "repainting_end": 8.0}),
        ("cover", {}),
        ("extract", {}),
    ],
)
def test_nothing_is_kept_where_nothing_will_be_put_back(engine: Engine, song: str, task: str, fields):
    found = inputs(engine, song, task, **fields)
    assert found.source is not None and found.wave is None and found.wave_region is None


def test_a_crossfade_that_is_named_is_one_in_every_mode(engine: Engine, song: str):
    named = {"repainting_end": 4.0, "repaint_mode": "aggressive", "repaint_wav_crossfade_sec": 0.0}
    assert inputs(engine, song, "repaint", **named).wave is not None
