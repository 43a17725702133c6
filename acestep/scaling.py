"""The work of ACE-Step that grows with length, one component at a time, as the engine calls it.

    with call(engine, "vae_decode", 30) as decode:       # inputs made, models on the device, graphs recorded
        seconds, counts = decode.timed()                 # the first is to be thrown away

component     what is timed                                            of `length`
lm_decode     audio codes after a fixed prompt, one item, unguided     seconds: 5 codes each
dit_step      one pass of the DiT, one item, unguided                  seconds: 25 latent frames each
vae_encode    a waveform to latents, in the engine's tiles             seconds
vae_decode    latents to a waveform, in the engine's tiles             seconds
resample      a stereo waveform from 44.1 to 48 kHz, on the host       seconds
text_encode   one prompt by the text encoder                           tokens

The last tile of a waveform reaches back to be as long as the others, so the VAE's work grows in steps: 30 s
are two tiles of 512 frames, a third more than its 750. ACE-Step has no log-mel. What a component needs
beside, such as the prompt's prefill, the DiT's conditions, compiling and recording, is before its time.
Inputs follow from a seed, and the work is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from acestep import components
from acestep.audio import decode, inputs, tile, writing
from acestep.diffusion import canvas, sampler, step
from acestep.models.rates import FRAMES_PER_SECOND, SAMPLE_RATE
from acestep.text.audio_codes import CODES_PER_SECOND
from acestep.text.prompts import CAPTION_LIMIT
from harness.captured import Captured
from harness.device import synchroniser
from harness.errors import MissingPrerequisite
from harness.graphs import Graphs
from harness.nn.sampling import Sampling
from harness.spans import record, span

if TYPE_CHECKING:
    from acestep.engine import Engine

TOKENS = {"text_encode"}  # components whose length is in tokens
ON_HOST = {"resample"}  # whatever the device
MOST_TOKENS = CAPTION_LIMIT  # that a prompt may have
PROMPT = list(range(1000, 1128))  # of the language model
SAMPLING = Sampling(temperature=0.85)
CONDITION_TOKENS = 32  # of the DiT
TIME = 0.7  # of its pass
RECORDING_RATE = 44_100  # samples per second before resampling

Counts = Mapping[str, int]  # work: tokens, frames, samples, tiles


@dataclass(frozen=True)
class Call:
    """A component at a length, ready to run. `run` does the work inside a span `stage`, and counts it."""

    stage: str
    run: Callable[[], Counts]
    wait: Callable[[], None] | None = None  # for the device

    def timed(self) -> tuple[float, Counts]:
        """Seconds of the stage, from an idle device to an idle device, and its work."""
        with record(self.wait) as times:
            counts = self.run()
        return times.seconds(self.stage), counts


@contextmanager
def call(engine: Engine, component: str, length: float, *, seed: int = 0) -> Iterator[Call]:
    """A component of `engine` at a `length`, in seconds of audio or in tokens; its models stay on the device.

    Raises MissingPrerequisite where the engine has no language model.
    """
    prepare, parts = PREPARED[component]
    if component == "lm_decode" and engine.planner is None:
        raise MissingPrerequisite(f"lm: {engine.setup.no_lm or 'none is loaded'}")
    with torch.inference_mode(), ExitStack() as held:
        for part in parts:
            engine.models.need(part)
        held.enter_context(engine.models.residency.using(*parts))
        stage, run = prepare(engine, length, seed, held)
        yield Call(stage, run, synchroniser(engine.models.device))


Prepared = tuple[str, Callable[[], Counts]]


def _lm_decode(engine: Engine, length_s: float, seed: int, held: ExitStack) -> Prepared:
    assert engine.planner is not None
    backend = engine.planner.backend
    backend.load()
    held.enter_context(backend.using())
    codes = round(length_s * CODES_PER_SECOND)

    def run() -> Counts:
        backend.decode_loop(SAMPLING, [seed]).codes([PROMPT], [codes])
        return {"tokens": codes, "prompt_tokens": len(PROMPT)}

    return "lm_decode", run


def _dit_step(engine: Engine, length_s: float, seed: int, held: ExitStack) -> Prepared:
    models = engine.models
    dit, frames = models.ace_step.decoder, round(length_s * FRAMES_PER_SECOND)
    shape = (1, CONDITION_TOKENS, models.config.encoder.hidden_size)
    encoded = torch.randn(shape, generator=_generator(seed)).to(models.device, models.dtype)
    conditions = dit.condition(canvas.silent(models.silence, frames).context(1), encoded)
    modulation = sampler.modulate(dit, [TIME], models.dtype, models.device)
    if engine.compiled:
        engine.compiled.room([step.bucket(conditions, False)])
        step.warm(engine.compiled, dit, conditions, modulation, False)
    graphs = Graphs.on(models.device, engine.setup.graphs)
    passes = step.Passes(dit, held.enter_context(Captured("diffuse", graphs, models.met)))
    if graphs.recording:
        passes.record(conditions, modulation, guided=False)
    x = sampler.noise([seed], frames, models.dtype, models.device)

    def run() -> Counts:
        with span("dit_step"):
            passes.velocity(x, conditions, modulation, 0)
        return {"frames": frames, "tokens": -(-frames // models.config.patch_size)}

    return "dit_step", run


def _vae_encode(engine: Engine, length_s: float, seed: int, held: ExitStack) -> Prepared:
    models = engine.models
    samples = round(length_s * models.sample_rate)
    wave = 0.1 * torch.randn(2, samples, generator=_generator(seed))

    def run() -> Counts:
        encoded = inputs.vae_encode(wave, models, engine.budget)
        return {"frames": encoded.latents.shape[1], "samples": samples, "tiles": encoded.tiles}

    return "vae_encode", run


def _vae_decode(engine: Engine, length_s: float, seed: int, held: ExitStack) -> Prepared:
    models = engine.models
    frames = round(length_s * FRAMES_PER_SECOND)
    latents = sampler.noise([seed], frames, models.dtype, models.device)
    graphs = Graphs.on(models.device, engine.setup.graphs)
    captured = held.enter_context(Captured(tile.STAGE, graphs, models.met))
    compiled = engine.compiled if components.VAE in engine.setup.compiled else None
    tiles = tile.Tiles(models.vae.decoder, compiled, captured)
    decode.prepare(tiles, latents, models.hop, engine.budget)

    def run() -> Counts:
        with span(tile.STAGE):
            decoded = decode.decode(models.vae.decoder, latents, models.hop, engine.budget, tiles)
        return {"frames": frames, "samples": decoded.audio.shape[-1], "tiles": decoded.tiles}

    return tile.STAGE, run


def _resample(engine: Engine, length_s: float, seed: int, held: ExitStack) -> Prepared:
    shape = (round(length_s * RECORDING_RATE), 2)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(shape, np.float32)

    def run() -> Counts:
        with span("resample"):
            resampled = writing.resampled(samples, RECORDING_RATE, SAMPLE_RATE)
        return {"samples": len(resampled)}

    return "resample", run


def _text_encode(engine: Engine, tokens: float, seed: int, held: ExitStack) -> Prepared:
    encoder, count = engine.models.text_encoder, round(tokens)
    vocabulary = encoder.embed_tokens.num_embeddings
    ids = torch.randint(vocabulary, (1, count), generator=_generator(seed)).to(engine.models.device)

    def run() -> Counts:
        with span("text_encode"):
            encoder(ids)
        return {"tokens": count}

    return "text_encode", run


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# What makes a component ready, and the parts of the models that are on the device meanwhile.
PREPARED: Mapping[str, tuple[Callable[[Engine, float, int, ExitStack], Prepared], tuple[str, ...]]] = {
    "lm_decode": (_lm_decode, ()),
    "dit_step": (_dit_step, (components.DIT,)),
    "vae_encode": (_vae_encode, (components.VAE_ENCODER,)),
    "vae_decode": (_vae_decode, (components.VAE,)),
    "resample": (_resample, ()),
    "text_encode": (_text_encode, (components.TEXT_ENCODER,)),
}
