"""What the DiT is given in each task, against diffusers' whole pipeline stopped at its first DiT call.

The pipeline runs on stand-ins: a made-up VAE that both sides share, audio tokenizer and detokenizer with
shared random weights, and a DiT that only tells what it was called with. So masks, source latents, their
order and length, and the places of the reference windows are diffusers' own.

Where ours follows upstream instead there is nothing to compare: at least 128 frames, out-painting (diffusers
has none), cover strength (it keeps the cover's canvas), code lists of unequal length in one batch, and
durations that are no whole frames (upstream rounds down, diffusers up).
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import DTYPES, LIMITS, REASON, assert_close, assert_trips, precision, random_tensor
from torch import Tensor

from acestep.audio import reference
from acestep.diffusion import canvas
from acestep.diffusion.canvas import Canvas
from acestep.text import audio_codes
from tests.oracle.test_codes import CODES, CONFIG, Pair

pipeline = pytest.importorskip("diffusers.pipelines.ace_step.pipeline_ace_step", reason=REASON)
schedulers = pytest.importorskip("diffusers.schedulers", reason=REASON)

CHANNELS = CONFIG.audio_acoustic_hidden_dim
HOP = 1920
BATCH = 3
FRAMES = 158  # no multiple of 5: the tokenizer has to pad
SILENCE_FRAMES = 200
REGION = (37, 107)
REGION_S = {"repainting_start": 1.5, "repainting_end": 4.3}


class StopAtDiT(Exception):
    """Carries what the DiT was given."""

    def __init__(self, context: Tensor):
        self.context = context


class DiT:
    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.config = SimpleNamespace(audio_acoustic_hidden_dim=CHANNELS)

    def __call__(self, *, context_latents: Tensor, **_: object) -> None:
        raise StopAtDiT(context_latents)


class ConditionEncoder:
    def __init__(self, silence: Tensor):
        self.silence_latent = silence

    def __call__(self, **_: object) -> tuple[Tensor, None]:
        return torch.zeros(BATCH, 1, 1), None


class VAE:
    """Three samples of each channel are a frame's latents: `[B, 2, N]` to `[B, floor(N / 1920), 6]`."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.heard: list[Tensor] = []

    def latents(self, wave: Tensor) -> Tensor:
        frames = wave[..., : wave.shape[-1] // HOP * HOP].unflatten(-1, (-1, HOP))
        return frames[..., [0, 700, HOP - 1]].movedim(1, 2).flatten(2)

    def encode(self, wave: Tensor) -> SimpleNamespace:
        self.heard.append(wave)
        latents = self.latents(wave).transpose(1, 2)
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda: latents))


class Pipeline(pipeline.AceStepPipeline):
    """diffusers' pipeline on the stand-ins; its own constructor takes real models only."""

    _execution_device = torch.device("cpu")

    def __init__(self, pair: Pair, silence: Tensor):
        self.vae = VAE(pair.dtype)
        self.transformer = DiT(pair.dtype)
        self.condition_encoder = ConditionEncoder(silence)
        self.audio_tokenizer = pair.their_tokenizer
        self.audio_token_detokenizer = pair.their_detokenizer
        self.scheduler = schedulers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1)
        self.is_turbo, self.sample_rate, self.latents_per_second = True, 25 * HOP, 25.0
        self.set_progress_bar_config(disable=True)

    def encode_prompt(self, **_: object) -> tuple[None, None, None, None]:
        return None, None, None, None

    def context(self, **request: object) -> Tensor:
        """What the DiT is given for `request`."""
        with pytest.raises(StopAtDiT) as stop, precision(self.vae.dtype):
            self(prompt=[""] * BATCH, lyrics=[""] * BATCH, guidance_scale=1.0, **request)
        return stop.value.context


class Scene:
    """One recording, one silence, one set of codes and weights, for both sides."""

    def __init__(self, dtype: torch.dtype):
        self.pair = Pair(dtype)
        self.model: Any = SimpleNamespace(tokenizer=self.pair.tokenizer, detokenizer=self.pair.detokenizer)
        self.silence = random_tensor(1, SILENCE_FRAMES, CHANNELS, seed=1, dtype=dtype)
        self.wave = random_tensor(2, FRAMES * HOP + 1000, seed=2, dtype=dtype)
        self.codes = torch.randint(CODES, (BATCH, 33), generator=torch.Generator().manual_seed(3))
        self.pipeline = Pipeline(self.pair, self.silence)
        self.latents = self.pipeline.vae.latents(self.wave[None])

    def theirs(self, task: str) -> Tensor:
        if task == "text2music":
            return self.pipeline.context(audio_duration=18.0)
        if task == "codes":
            return self.pipeline.context(audio_codes=[audio_codes.join(row) for row in self.codes.tolist()])
        region = REGION_S if task in ("repaint", "lego") else {}
        task, _, to_the_end = task.partition(" ")
        if to_the_end:
            region = {"repainting_start": 1.5, "repainting_end": -1.0}
        return self.pipeline.context(task_type=task, src_audio=self.wave, **region)


Make = Callable[[Scene], Canvas]

TASKS: dict[str, Make] = {
    "text2music": lambda s: canvas.silent(s.silence, 450),  # more than the silence has
    "codes": lambda s: canvas.from_codes(s.model, s.codes, s.silence, 5 * s.codes.shape[1]),
    "cover": lambda s: canvas.cover(s.model, s.latents, s.silence)[0],
    "repaint": lambda s: canvas.kept(s.latents, s.silence, REGION, erase=True),
    "repaint to the end": lambda s: canvas.kept(
        s.latents, s.silence, canvas.region_frames(1.5, -1.0, FRAMES), erase=True
    ),
    "lego": lambda s: canvas.kept(s.latents, s.silence, canvas.region_frames(1.5, 4.3, FRAMES)),
    "extract": lambda s: canvas.kept(s.latents, s.silence),
    "complete": lambda s: canvas.kept(s.latents, s.silence),
}


@DTYPES
@pytest.mark.parametrize("task", TASKS)
def test_context(task: str, dtype: torch.dtype) -> None:
    scene = Scene(dtype)
    ours = TASKS[task](scene).context(BATCH)
    assert_close(ours, scene.theirs(task), LIMITS[dtype], f"canvas, {task}")


def _late(scene: Scene) -> Canvas:
    return canvas.kept(scene.latents, scene.silence, (REGION[0] + 1, REGION[1]), erase=True)


def _silence_restarts(scene: Scene) -> Canvas:
    right = TASKS["repaint"](scene)
    source = right.source.clone()
    source[:, REGION[0] : REGION[1]] = scene.silence[:, : REGION[1] - REGION[0]]
    return Canvas(source, right.mask)


def _mask_turned_round(scene: Scene) -> Canvas:
    right = TASKS["repaint"](scene)
    return Canvas(right.source, 1 - right.mask)


def _silence_ends(scene: Scene) -> Canvas:
    right = TASKS["text2music"](scene)
    source = right.source.clone()
    source[:, SILENCE_FRAMES:] = 0
    return Canvas(source, right.mask)


def _padded_with_zeros(scene: Scene) -> Canvas:
    return canvas.cover(scene.model, scene.latents, torch.zeros_like(scene.silence))[0]


CONTROLS: dict[tuple[str, str], Make] = {
    ("text2music", "silence ends"): _silence_ends,
    ("codes", "another item's codes"): lambda s: canvas.from_codes(
        s.model, s.codes.roll(1, 0), s.silence, 5 * s.codes.shape[1]
    ),
    ("cover", "padded with zeros"): _padded_with_zeros,
    ("cover", "no codes in between"): TASKS["extract"],
    ("repaint", "region a frame late"): _late,
    ("repaint", "silence from its beginning"): _silence_restarts,
    ("repaint", "mask turned round"): _mask_turned_round,
    ("repaint", "region kept"): TASKS["lego"],
    ("repaint to the end", "region ends"): TASKS["repaint"],
    ("lego", "region erased"): TASKS["repaint"],
    ("extract", "region only"): TASKS["lego"],
    ("complete", "silence"): lambda s: canvas.silent(s.silence, FRAMES),
}


@pytest.mark.parametrize(("task", "control"), CONTROLS)
def test_a_wrong_canvas_is_told_apart(task: str, control: str) -> None:
    scene = Scene(torch.float64)
    ours = CONTROLS[task, control](scene).context(BATCH)
    assert_trips(ours, scene.theirs(task), LIMITS[torch.float32], f"canvas, {task}", control)


def test_the_mask_in_front_of_the_source_is_told_apart() -> None:
    scene = Scene(torch.float64)
    ours = TASKS["repaint"](scene).context(BATCH).roll(CHANNELS, -1)
    limit = LIMITS[torch.float32]
    assert_trips(ours, scene.theirs("repaint"), limit, "canvas, repaint", "mask before source")


def test_the_codes_of_a_cover_are_theirs() -> None:
    scene = Scene(torch.float64)
    _, codes = canvas.cover(scene.model, scene.latents, scene.silence)
    with precision(torch.float64):
        _, theirs = scene.pair.their_tokenizer.tokenize(scene.latents, scene.silence)
    assert torch.equal(codes, theirs[..., 0])


def their_region(start_s: float, end_s: float, frames: int) -> tuple[int, int]:
    mask = pipeline.AceStepPipeline._build_chunk_mask(
        SimpleNamespace(latents_per_second=25.0),
        "repaint", frames, 1, torch.device("cpu"), torch.float64, 1, start_s, end_s, has_src_audio=True,
    )  # fmt: skip
    inside = mask.flatten().nonzero().flatten()
    return int(inside[0]), int(inside[-1]) + 1


@given(
    start=st.integers(0, 400_000).filter(lambda sample: sample % HOP),
    end=st.integers(1, 400_000).filter(lambda sample: sample % HOP) | st.just(-48_000),
    frames=st.integers(1, 300),
)
def test_regions_are_theirs_between_the_frames(start: int, end: int, frames: int) -> None:
    seconds = start / 48_000, end / 48_000
    assert canvas.region_frames(*seconds, frames) == their_region(*seconds, frames)


def test_on_a_frame_ours_is_exact() -> None:
    """1.16 s begins frame 29; 1.16 · 25 in binary does not reach it."""
    assert canvas.region_frames(1.16, 2.0, 100) == (29, 50)
    assert their_region(1.16, 2.0, 100) == (28, 50)


def their_windows(wave: Tensor) -> Tensor:
    vae = VAE(wave.dtype)
    stand_in = SimpleNamespace(vae=vae, sample_rate=48_000)
    prepare = pipeline.AceStepPipeline.prepare_reference_audio_latents
    prepare(stand_in, wave, 1, torch.device("cpu"), wave.dtype)
    return vae.heard[0][0]


def _windows_at(wave: Tensor, *places: int) -> Tensor:
    return torch.cat([wave[:, place : place + reference.WINDOW] for place in places], dim=1)


@DTYPES
@pytest.mark.parametrize("samples", [12_345, 1_000_000, 1_439_999, 1_440_000, 1_440_001, 3_000_001])
def test_reference_windows(samples: int, dtype: torch.dtype) -> None:
    wave = random_tensor(2, samples, dtype=dtype)
    ours = reference.windows(wave)
    assert ours is not None
    assert_close(ours, their_windows(wave), LIMITS[dtype], "reference windows")


def test_windows_elsewhere_are_told_apart() -> None:
    wave = random_tensor(2, 3_000_001)
    last = wave.shape[1] - reference.WINDOW
    wrong = {
        "around the centre": _windows_at(wave, 0, last // 2, last),
        "the last a sample early": _windows_at(wave, 0, wave.shape[1] // 3, last - 1),
    }
    for control, ours in wrong.items():
        limit = LIMITS[torch.float32]
        assert_trips(ours, their_windows(wave), limit, "reference windows", control)
