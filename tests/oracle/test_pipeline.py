"""Whole requests of every task, against a plain second implementation of all that is around the networks.

`reference_pipeline` takes the same networks and words through steps of its own. Its waveform is made of the
engine's latents: the made-up VAE turns one rounding into fifteen. A control changes one thing in the
reference alone, so every option and every formula is one whose absence would be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from msgspec import structs
from oracles import assert_close, assert_trips, random_tensor, relative_rms
from torch import Tensor, nn

from acestep import GenerationConfig, GenerationParams
from acestep.engine import Engine
from acestep.text import audio_codes
from tests.oracle.reference_pipeline import Reference

TURBO, BASE = "acestep-v15-turbo", "acestep-v15-base"
LIMIT = 5e-6
LAYERS = 2  # of the DiT; depth is not what is tested
FRAMES = 133  # of the recording: odd, no whole number of codes, and there is a tail
SHORT = {"duration": 5.4, "inference_steps": 3, "caption": "slow dub", "lyrics": "la la"}
METADATA = {"bpm": 91, "keyscale": "A minor", "timesignature": "3", "use_cot_metas": False}
CODES = torch.randint(64_000, (27,), generator=torch.Generator().manual_seed(5)).tolist()
REGION = {"repainting_start": 1.5, "repainting_end": 3.3}
EDGES = {"repainting_start": 0.3, "repainting_end": 5.1, "repaint_mode": "conservative"}
Fields = dict[str, Any]

TASKS: dict[str, Fields] = {
    "text2music": {},
    "codes": {"audio_codes": audio_codes.join(CODES)},
    "cover": {"task_type": "cover", "cover_noise_strength": 0.4},
    "repaint": {"task_type": "repaint", **REGION},
    "lego": {"task_type": "lego", "track_name": "drums", **REGION},
    "extract": {"task_type": "extract", "track_name": "backing_vocals"},
    "complete": {"task_type": "complete", "complete_track_classes": ("drums", "bass")},
}
DEFAULTS: dict[str, Fields] = {
    "off": {"repaint_mode": "aggressive", "chunk_mask_mode": "explicit"},
    "on": {"dcw_enabled": True, "enable_normalization": True},
}
LIMITS_OF_VELOCITY = {"velocity_norm_threshold": 0.8, "velocity_ema_factor": 0.3}
DCW = {"dcw_enabled": True}
RETAKE = {"retake_seed": 9, "retake_variance": 0.3}
FLOW = TASKS["cover"] | {
    "cover_noise_strength": 0.0,
    "guidance_scale": 2.0,  # the difference of two velocities has the roundings of both
    "flow_edit_morph": True,
    "flow_edit_source_caption": "fast polka",
    "flow_edit_source_lyrics": "da da",
}
IN_PART = {"flow_edit_n_min": 0.34, "flow_edit_n_max": 0.67, "flow_edit_n_avg": 2}
# Steps enough that the second half of them can differ from the first, and each option where it has a use.
OPTIONS: dict[str, tuple[str, Fields]] = {
    "shift": (BASE, {"shift": 2.4}),
    "timesteps": (BASE, {"timesteps": (1.0, 0.7, 0.2)}),
    "timesteps on turbo": (TURBO, {"timesteps": (0.97, 0.5, 0.31)}),
    "eight steps": (TURBO, {"inference_steps": 8, "shift": 2.6}),
    "retake": (TURBO, RETAKE),
    "velocity clamped": (BASE, {"velocity_norm_threshold": 0.8}),
    "velocity smoothed": (TURBO, {"velocity_ema_factor": 0.3}),
    "sde": (BASE, {"infer_method": "sde", "shift": 2.0}),
    "sde on turbo": (TURBO, {"infer_method": "sde"} | DCW),
    "adg": (BASE, {"guidance_mode": "adg"}),
    "cfg": (BASE, {"guidance_mode": "cfg"}),
    "interval": (BASE, {"cfg_interval_start": 0.3, "cfg_interval_end": 0.9}),
    "heun": (BASE, {"infer_method": "heun"}),
    "heun, adg": (BASE, {"infer_method": "heun", "guidance_mode": "adg"}),
    "heun, interval": (BASE, {"infer_method": "heun", "cfg_interval_start": 0.5}),
    "heun on turbo": (TURBO, {"infer_method": "heun"} | DCW | LIMITS_OF_VELOCITY),
    "heun with all": (BASE, {"infer_method": "heun", "dcw_wavelet": "db2"} | DCW | LIMITS_OF_VELOCITY),
    "dcw low": (TURBO, DCW | {"dcw_mode": "low", "dcw_wavelet": "db4", "dcw_scaler": 0.1}),
    "dcw high": (BASE, DCW | {"dcw_mode": "high", "dcw_wavelet": "sym4"}),
    "dcw pix": (TURBO, DCW | {"dcw_mode": "pix"}),
    "dcw sym8": (TURBO, DCW | {"dcw_wavelet": "sym8", "dcw_high_scaler": 0.06}),
    "dcw coif2": (TURBO, DCW | {"dcw_wavelet": "coif2"}),
    "cover leaves its source": (BASE, TASKS["cover"] | {"audio_cover_strength": 0.5}),
    "codes with noise": (TURBO, TASKS["codes"] | {"cover_noise_strength": 0.4, "duration": 7.0}),
    "repaint, conservative": (BASE, TASKS["repaint"] | {"repaint_mode": "conservative"}),
    "repaint to the edges": (TURBO, TASKS["repaint"] | EDGES),
    "repaint, explicit": (TURBO, TASKS["repaint"] | {"chunk_mask_mode": "explicit", "repaint_strength": 0.2}),
    "repaint beyond": (TURBO, TASKS["repaint"] | {"repainting_start": -1.0, "repainting_end": 2.0} | DCW),
    "lego to the end": (TURBO, TASKS["lego"] | {"repainting_end": -1.0}),
    "repaint by hand": (
        BASE,
        TASKS["repaint"]
        | {
            "repaint_injection_ratio": 0.7,
            "repaint_latent_crossfade_frames": 7,
            "repaint_wav_crossfade_sec": 0.2,
        },
    ),
    "latents moved": (TURBO, {"latent_rescale": 0.8, "latent_shift": 0.05}),
    "loudness": (TURBO, {"enable_normalization": True, "normalization_db": -7.0}),
    "fades": (TURBO, {"fade_in_duration": 0.5, "fade_out_duration": 1.5}),
    "flow edit": (BASE, FLOW),
    "flow edit in part": (BASE, FLOW | IN_PART | LIMITS_OF_VELOCITY),
}


@dataclass
class Bench:
    """An engine of few layers, its recording, and what it has made so far."""

    engine: Engine
    path: Path
    wave: Tensor
    songs: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def request(self, fields: Fields) -> GenerationParams:
        source = {"src_audio": str(self.path)} if "task_type" in fields else {}
        return GenerationParams(**SHORT | METADATA | source | fields)

    def ours(self, params: GenerationParams, seeds: tuple[int, ...] = (3,)) -> tuple[Tensor, Tensor]:
        """The engine's latents `[B, T, 64]` and waveforms `[B, 2, N]`."""
        if (params, seeds) not in self.songs:
            config = GenerationConfig(batch_size=len(seeds), seeds=seeds)
            generation = self.engine.generation(self.engine.resolve(params, config))
            latents, decode = [], generation.vae_decode

            def vae_decode(diffused: Any, *rest: Any) -> Any:
                latents.extend(part.latents for part in diffused)
                return decode(diffused, *rest)

            generation.vae_decode = vae_decode
            with torch.inference_mode():
                audios = generation.run(None).audios
            self.songs[params, seeds] = torch.cat(latents), torch.stack([item.tensor for item in audios])
        return self.songs[params, seeds]

    def pairs(
        self, params: GenerationParams, seeds: tuple[int, ...] = (3,), damage: Fields | None = None
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Ours and the reference's, of each part; `damage`: what to spoil of the reference."""
        latents, audios = self.ours(params, seeds)
        changes = damage or {}
        spoilt = {name: value for name, value in changes.items() if callable(value)}
        kind = type("Spoilt", (Reference,), spoilt)
        params = replace(params, **{name: changes[name] for name in changes.keys() - spoilt})
        wave = self.wave if params.src_audio else None
        again = params.retake_seed
        items = [
            kind(self.engine.models, replace(params, retake_seed=again and again + item), seed, wave)
            for item, seed in enumerate(seeds)
        ]
        yield "latents", latents, torch.cat([item.latents() for item in items])
        theirs = [item.audio(item_latents[None]) for item, item_latents in zip(items, latents, strict=True)]
        yield "waveform", audios, torch.stack(theirs)

    def check(self, fields: Fields, seeds: tuple[int, ...] = (3,)) -> None:
        for part, ours, theirs in self.pairs(self.request(fields), seeds):
            assert_close(ours, theirs, LIMIT, f"pipeline, {part}")


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    noise = random_tensor(2, FRAMES * 1920 + 740, seed=7)
    wave = noise.unfold(1, 41, 1).mean(-1).float()  # what is near is alike, and none of it is clipped
    path = tmp_path_factory.mktemp("recording") / "recording.wav"
    soundfile.write(path, wave.T.numpy(), 48_000, "FLOAT")
    return {dit: Bench(shallow(dit), path, wave) for dit in (TURBO, BASE)}


def shallow(dit: str) -> Engine:
    """An engine whose networks have few layers."""
    engine = Engine.load("synthetic-tiny", device="cpu", dit=dit, lm=None)
    engine.models.need("vae_encoder", "tokenizer", "detokenizer")
    decoder = engine.models.ace_step.decoder
    decoder.layers = nn.ModuleList(list(decoder.layers)[:LAYERS])
    kinds = decoder.config.layer_types[:LAYERS]
    decoder.config = structs.replace(decoder.config, num_hidden_layers=LAYERS, layer_types=kinds)
    for block in (*engine.models.vae.encoder.block, *engine.models.vae.decoder.block):
        block.res_unit1 = block.res_unit2 = block.res_unit3 = nn.Identity()
    return engine


@pytest.mark.parametrize("defaults", DEFAULTS)
@pytest.mark.parametrize("dit", [TURBO, BASE], ids=["turbo", "base"])
@pytest.mark.parametrize("task", TASKS)
def test_task(task: str, dit: str, defaults: str, benches: dict[str, Bench]) -> None:
    benches[dit].check(TASKS[task] | DEFAULTS[defaults])


@pytest.mark.parametrize("option", OPTIONS)
def test_option(option: str, benches: dict[str, Bench]) -> None:
    dit, fields = OPTIONS[option]
    benches[dit].check(fields)


@pytest.mark.parametrize("fields", [{"infer_method": "sde"} | RETAKE, FLOW], ids=["sde, retake", "flow edit"])
def test_items_of_a_batch(fields: Fields, benches: dict[str, Bench]) -> None:
    benches[BASE].check(fields, seeds=(3, 8))


def truncated(self: Reference, size: int, first: int, last: int, width: int) -> Tensor:
    """A ramp that keeps its slope, cut off where the recording ends."""
    frame = torch.arange(size)
    away = (first - frame).clamp(min=0) + (frame - last + 1).clamp(min=0)
    return (1 - away / (width + 1)).clamp(min=0)


def opposite(self: Reference, x: Tensor, data: Tensor, t: float) -> Tensor:
    return 2 * x - Reference.corrected(self, x, data, t)


def at_the_other_time(self: Reference, x: Tensor, data: Tensor, t: float) -> Tensor:
    return Reference.corrected(self, x, data, 1 - t)


def put_back_last(self: Reference, x: Tensor, noise: Tensor, t_next: float, step: int, steps: int) -> Tensor:
    self.turbo, turbo = False, self.turbo
    x = Reference.put_back(self, x, noise, t_next, step, steps)
    self.turbo = turbo
    return x


# What is wrong, and where: fields of the request or methods, in the reference alone.
CONTROLS: dict[str, tuple[str, Fields, Fields]] = {
    "noise blended with the codes": (TURBO, TASKS["cover"], {"blended_with": Reference.source}),
    "lego keeps no frame": (BASE, TASKS["lego"], {"put_back": lambda self, x, *_: x}),
    "last step of heun is Euler's": (BASE, OPTIONS["heun"][1], {"corrects_at": lambda self, t: t > 0}),
    "corrector of ADG is plain": (BASE, OPTIONS["heun, adg"][1], {"corrector_mode": lambda *_: "cfg"}),
    "corrector of APG is APG": (BASE, OPTIONS["heun"][1], {"corrector_mode": lambda self, t: "apg"}),
    "ramp truncated": (TURBO, OPTIONS["repaint to the edges"][1], {"ramps": truncated}),
    "last step put back": (TURBO, OPTIONS["repaint to the edges"][1], {"put_back": put_back_last}),
    "DCW of the other sign": (TURBO, DCW, {"corrected": opposite}),
    "DCW at the other time": (TURBO, DCW, {"corrected": at_the_other_time}),
    "no splice": (TURBO, TASKS["repaint"], {"spliced": lambda self, audio: audio}),
    "words say the codes' length": (TURBO, OPTIONS["codes with noise"][1], {"seconds": lambda self: 5.4}),
    "mask explicit": (TURBO, TASKS["repaint"], {"chunk_mask_mode": "explicit"}),
    "APG without momentum": (
        BASE,
        {},
        {"apg": lambda self, *branches: Reference.apg(self, *branches[:-1], {})},
    ),
    **{
        f"{name} {value}": (dit, fields, {name: value})
        for dit, fields, changes in (
            (TURBO, DCW, {"dcw_enabled": False, "dcw_mode": "low", "dcw_scaler": 0.0505}),
            (TURBO, DCW, {"dcw_high_scaler": 0.03, "dcw_wavelet": "db2"}),
            (TURBO, OPTIONS["retake"][1], {"retake_variance": 0.301, "retake_seed": 10}),
            (BASE, OPTIONS["velocity clamped"][1], {"velocity_norm_threshold": 0.801}),
            (TURBO, OPTIONS["velocity smoothed"][1], {"velocity_ema_factor": 0.301}),
            (BASE, OPTIONS["interval"][1], {"cfg_interval_start": 0.7, "cfg_interval_end": 1.0}),
            (BASE, OPTIONS["adg"][1], {"guidance_scale": 7.01, "guidance_mode": "apg"}),
            (BASE, OPTIONS["sde"][1], {"shift": 1.0, "infer_method": "ode"}),
            (TURBO, TASKS["cover"], {"cover_noise_strength": 0.7}),
            (BASE, OPTIONS["cover leaves its source"][1], {"audio_cover_strength": 1.0}),
            (TURBO, OPTIONS["repaint, explicit"][1], {"repaint_strength": 0.5, "repaint_mode": "aggressive"}),
            (BASE, OPTIONS["repaint by hand"][1], {"repaint_injection_ratio": 0.3}),
            (BASE, OPTIONS["repaint by hand"][1], {"repaint_latent_crossfade_frames": 8}),
            (BASE, OPTIONS["repaint by hand"][1], {"repaint_wav_crossfade_sec": 0.21}),
            (TURBO, OPTIONS["latents moved"][1], {"latent_rescale": 0.801, "latent_shift": 0.051}),
            (TURBO, OPTIONS["loudness"][1], {"enable_normalization": False, "normalization_db": -7.01}),
            (TURBO, OPTIONS["fades"][1], {"fade_in_duration": 0.51, "fade_out_duration": 1.51}),
            (BASE, FLOW, {"flow_edit_source_caption": "slow dub", "flow_edit_source_lyrics": "la la"}),
            (BASE, FLOW | IN_PART, {"flow_edit_n_min": 0.0, "flow_edit_n_max": 1.0, "flow_edit_n_avg": 1}),
        )
        for name, value in changes.items()
    },
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, benches: dict[str, Bench]) -> None:
    dit, fields, damage = CONTROLS[control]
    pairs = benches[dit].pairs(benches[dit].request(fields), damage=damage)
    for _, ours, theirs in pairs:
        if relative_rms(ours, theirs) > LIMIT:
            break
    assert_trips(ours, theirs, LIMIT, "pipeline", control)


def test_codes_are_rounded_in_single_precision(benches: dict[str, Bench]) -> None:
    """In bf16 the edge between two levels is off by up to a sixteenth of the way from one to the other."""
    tokenizer = deepcopy(benches[TURBO].engine.models.ace_step.tokenizer).bfloat16()
    scene = SimpleNamespace(model=SimpleNamespace(tokenizer=tokenizer))
    latents = random_tensor(1, 2500, 64, seed=11, dtype=torch.bfloat16)
    groups = tokenizer.audio_acoustic_proj(latents).unflatten(1, (-1, 5)).flatten(0, 1)
    features = tokenizer.attention_pooler(groups)
    basis = torch.tensor([1, 8, 64, 512, 2560, 12_800])
    theirs = (Reference.digits(scene, features) * basis).sum(-1)
    assert torch.equal(tokenizer(latents)[0], theirs)
    levels = torch.tensor(tokenizer.quantizer.levels, dtype=torch.bfloat16)
    stretch = 1 + 1 / (levels - 1)
    z = ((tokenizer.quantizer.project_in(features) / stretch).tanh() * stretch).clamp(-1, 1)
    digits = ((levels - 1) * (z + 1) / 2 + 0.5).floor().long()
    assert ((digits * basis).sum(-1) != theirs).any()
