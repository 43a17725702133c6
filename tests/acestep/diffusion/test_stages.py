"""What the stages hand the sampler: where it starts, what it puts back, what the DiT is told of a region."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from acestep import resolver
from acestep.audio.inputs import AudioInputs
from acestep.diffusion import sampler
from acestep.diffusion.batches import Conditioned
from acestep.diffusion.repaint import Repaint
from acestep.engine import Engine
from acestep.request import GenerationConfig, GenerationParams
from acestep.text import audio_codes

SEEDS = (3, 4)
REGION = {"repainting_start": 2.0, "repainting_end": 4.0}
METADATA = {"bpm": 120, "keyscale": "A minor", "timesignature": "4", "inference_steps": 4}
CODES = audio_codes.join(range(0, 60_000, 2_000))


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    """Six seconds of noise."""
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.3, 0.3, (6 * 48_000, 2)), 48_000)
    return str(path)


class Handed:
    """What a request hands the sampler, from recordings to the first noise, and no step done."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch, *, base: bool = False, **fields):
        config = GenerationConfig(batch_size=len(SEEDS), seeds=SEEDS)
        setup = dataclasses.replace(engine.setup, turbo=False) if base else engine.setup
        plan = resolver.resolve(GenerationParams(**METADATA | fields), config, setup)
        generation = engine.generation(plan)
        monkeypatch.setattr(sampler, "denoise", self._remember)
        with torch.inference_mode():
            self.inputs: AudioInputs = generation.encode_inputs()
            batches = generation.micro_batches(generation.lm(), self.inputs)
            texts = generation.text_encode(batches)
            self.conditioned: list[Conditioned] = generation.diffusion.condition(batches, texts, self.inputs)
            generation.diffusion.diffuse(self.conditioned, self.inputs)
        self.times = plan.times

    def _remember(self, dit, x: Tensor, *_, repaint: Repaint | None, **__) -> tuple[Tensor, int]:
        self.x, self.repaint = x, repaint
        return x, 0

    @property
    def source(self) -> Tensor:
        assert self.inputs.source is not None
        return self.inputs.source

    @property
    def canvas(self):
        return self.conditioned[0].canvas

    def started_from(self, data: Tensor) -> bool:
        """Whether the start lies on the straight path from the seeds' noise to `data`."""
        streams = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        shape = (1, *data.shape[1:])
        noise = torch.cat([torch.randn(shape, generator=stream) for stream in streams]).double()
        t = self.times[0]
        return torch.allclose(self.x.double(), t * noise + (1 - t) * data.double(), atol=1e-6)


@pytest.mark.parametrize(("strength", "first"), [(0.2, 0.75), (0.5, 0.5), (0.9, 0.25)])
def test_a_cover_starts_near_the_recording_and_not_near_its_codes(engine, song, monkeypatch, strength, first):
    cover = {"task_type": "cover", "src_audio": song, "cover_noise_strength": strength}
    handed = Handed(engine, monkeypatch, **cover)
    assert handed.times[0] == first
    assert handed.started_from(handed.source) and not handed.started_from(handed.canvas.source)


def test_without_a_recording_a_cover_starts_near_what_its_codes_stand_for(engine, monkeypatch):
    handed = Handed(engine, monkeypatch, audio_codes=CODES, cover_noise_strength=0.5)
    assert handed.inputs.source is None and handed.times[0] == 0.5
    assert handed.started_from(handed.canvas.source) and not handed.started_from(0 * handed.canvas.source)


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("task", ["repaint", "lego"])
def test_a_region_is_put_back_and_faded_in_every_task_that_has_one(engine, song, monkeypatch, task, base):
    handed = Handed(engine, monkeypatch, base=base, task_type=task, src_audio=song, **REGION)
    repaint = handed.repaint
    assert repaint is not None and torch.equal(repaint.clean, handed.source)
    assert (repaint.region, repaint.ratio, repaint.crossfade_frames) == ((50, 100), 0.5, 12)
    assert repaint.spare_last is not base
    erased = (handed.canvas.source != handed.source).any(-1)[0].nonzero().flatten().tolist()
    assert erased == ([*range(50, 100)] if task == "repaint" else [])


@pytest.mark.parametrize(
    ("task", "fields"),
    [("lego", {}), ("repaint", {"repainting_start": -1.0}), ("extract", {}), ("cover", {})],
)
def test_nothing_is_put_back_where_all_is_painted(engine, song, monkeypatch, task, fields):
    assert Handed(engine, monkeypatch, task_type=task, src_audio=song, **fields).repaint is None


@pytest.mark.parametrize("task", ["repaint", "lego"])
def test_the_network_is_told_the_region_only_where_that_is_asked_for(engine, song, monkeypatch, task):
    region = {"task_type": task, "src_audio": song} | REGION
    untold = Handed(engine, monkeypatch, **region)
    told = Handed(engine, monkeypatch, chunk_mask_mode="explicit", **region)
    assert untold.canvas.mask.eq(1).all()
    assert told.canvas.mask.nonzero().flatten().tolist() == [*range(50, 100)]
    assert torch.equal(untold.canvas.source, told.canvas.source)
    for handed in (untold, told):
        assert handed.repaint is not None and handed.repaint.region == (50, 100)
