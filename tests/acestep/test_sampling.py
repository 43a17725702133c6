"""Options of the sampler from a request to its latents: retakes, corrections, edits of a recording."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from acestep import GenerationConfig, GenerationParams
from acestep.diffusion.batches import MicroBatch
from acestep.engine import Engine
from acestep.text.metadata import Metadata

SONG = {"caption": "slow dub", "lyrics": "la la", "bpm": 120, "keyscale": "A minor", "timesignature": "4"}
LAST_SEED = 2**32 - 1


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> str:
    """Four seconds of a tone."""
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(4 * 48_000) / 30), 48_000)
    return str(path)


def params(**fields) -> GenerationParams:
    return GenerationParams(**(SONG | {"duration": 4, "inference_steps": 4} | fields))


def seeded(*seeds: int) -> GenerationConfig:
    return GenerationConfig(batch_size=len(seeds), seeds=seeds)


def latents(engine: Engine, **fields) -> Tensor:
    generation = engine.generation(engine.resolve(params(**fields), seeded(1)))
    with torch.inference_mode():
        inputs = generation.encode_inputs()
        batches = generation.micro_batches(generation.lm(), inputs)
        conditioned = generation.diffusion.condition(batches, generation.text_encode(batches), inputs)
        return generation.diffusion.diffuse(conditioned, inputs)[0].latents


def test_each_option_is_heard_and_no_two_are_the_same(engine: Engine):
    options = (
        {},
        {"velocity_norm_threshold": 0.3},
        {"velocity_ema_factor": 0.3},
        {"dcw_enabled": True},
        {"dcw_enabled": True, "dcw_mode": "low"},
        {"dcw_enabled": True, "dcw_mode": "high"},
        {"dcw_enabled": True, "dcw_mode": "pix"},
        {"dcw_enabled": True, "dcw_scaler": 0.2},
        {"dcw_enabled": True, "dcw_high_scaler": 0.2},
        {"dcw_enabled": True, "dcw_wavelet": "coif2"},
        {"retake_variance": 0.3, "retake_seed": 5},
        {"retake_variance": 0.3, "retake_seed": 6},
        {"retake_variance": 0.6, "retake_seed": 5},
    )
    made = torch.stack([latents(engine, **fields) for fields in options]).flatten(1)
    apart = torch.cdist(made, made) / made.norm(dim=1).mean()
    assert apart.fill_diagonal_(1).min() > 1e-4


def test_an_items_noise_is_of_its_own_two_seeds_whatever_its_batch(engine: Engine):
    request = params(retake_variance=1 / 3, retake_seed=LAST_SEED)
    diffusion = engine.generation(engine.resolve(request, seeded(11, 13))).diffusion
    both, second = (diffusion.noise(MicroBatch(Metadata(), 100, 0, items, ())) for items in ((0, 1), (1,)))
    seeds = ((11, LAST_SEED), (13, 0))  # consecutive, from the last to the first
    own, other = (
        torch.cat([torch.randn(1, 100, 64, generator=torch.Generator().manual_seed(seed)) for seed in column])
        for column in zip(*seeds, strict=True)
    )
    assert torch.allclose(both, math.sqrt(3) / 2 * own + 0.5 * other, rtol=0, atol=1e-6)
    assert torch.equal(both[1:], second) and not torch.allclose(both, own, atol=0.1)


def test_a_retake_seed_that_is_drawn_is_told_and_repeats_the_retake(engine: Engine):
    plan = engine.resolve(params(retake_variance=0.5), seeded(1))
    first, second = engine.run(plan), engine.run(plan)
    seed = first.plan["request"]["retake_seed"]
    assert first.warnings == (f"retake_seed: none was named; {seed} is drawn, which repeats this retake",)
    again = engine.generate(params(retake_variance=0.5, retake_seed=seed), seeded(1))
    assert torch.equal(first.audios[0].tensor, again.audios[0].tensor) and not again.warnings
    assert second.plan["request"]["retake_seed"] != seed  # once in four thousand million runs it is
    assert "retake_seed" not in engine.generate(params(), seeded(1)).plan["request"]


def test_an_edit_between_the_same_words_leaves_the_recording(engine: Engine, song: str):
    """Both prompts are the request's own, each with its words: else something would change."""
    same = {"flow_edit_source_caption": SONG["caption"], "flow_edit_source_lyrics": SONG["lyrics"]}
    cover = {"task_type": "cover", "src_audio": song, "flow_edit_morph": True, "duration": None}
    with torch.inference_mode():
        inputs = engine.generation(engine.resolve(params(**cover), seeded(1))).encode_inputs()
    assert inputs.source is not None
    for fields, kept in (({}, True), *(({name: "another"}, False) for name in same)):
        edited = latents(engine, **cover | same | fields)
        assert torch.allclose(edited, inputs.source, rtol=0, atol=1e-3) is kept, fields


@pytest.mark.parametrize(
    ("fields", "steps", "passes"),
    [
        ({}, 4, 8),
        ({"flow_edit_n_avg": 3}, 4, 24),
        ({"flow_edit_n_min": 0.25, "flow_edit_n_max": 0.75, "flow_edit_n_avg": 2}, 3, 2 * 4 + 1),
        ({"flow_edit_n_min": 0.5, "flow_edit_n_max": 0.5}, 2, 2),
        ({"flow_edit_n_min": 1.0}, 0, 0),
    ],
)
def test_what_an_edit_runs_is_planned_and_counted(engine: Engine, song: str, fields, steps: int, passes: int):
    cover = {"task_type": "cover", "src_audio": song, "flow_edit_morph": True, "duration": None}
    plan = engine.resolve(params(**cover | fields), seeded(1, 2))
    result = engine.run(plan)
    assert result.counts.dit_steps == len(result.steps_s) == result.plan["steps"] == steps
    assert result.counts.dit_calls == len(plan.evaluations) == passes
    assert all(item.tensor.isfinite().all() and item.rms > 0 for item in result.audios)
