"""The Oobleck autoencoder against diffusers', from weight-normalised tensors as published.

Theirs normalises weights on every call; ours folds them once on the way in. Strides are the published
ones, so a latent frame is 1,920 samples and the halo of a tile is the real one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from oracles import DTYPES, LIMITS, assert_close, assert_trips, diffusers_vae, load, random_tensor
from torch import Tensor

from acestep.audio import encode as encode_module
from acestep.audio.decode import decode
from acestep.audio.encode import encode
from acestep.audio.tile_size import VAE_CHUNK
from acestep.models import vae
from acestep.models.configs import VAEConfig
from acestep.models.vae import Oobleck, fold, published_shapes
from harness.checkpoint import materialise, on_meta
from harness.memory import GIB
from harness.tiling import next_tile

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")

CONFIG = VAEConfig(
    encoder_hidden_size=8,
    decoder_channels=6,
    decoder_input_channels=4,
    channel_multiples=[1, 1, 2, 2, 3],
    downsampling_ratios=[2, 4, 4, 6, 10],
    audio_channels=2,
    sampling_rate=48_000,
)
HOP = CONFIG.hop

State = dict[str, Tensor]
Fold = Callable[[str, Callable[[str], Tensor]], Tensor]


def published_weights() -> State:
    """Random tensors under the published names; gains that keep a signal's size through every layer."""
    shapes = published_shapes(on_meta(lambda: Oobleck(CONFIG)))
    state = {}
    for index, (name, shape) in enumerate(shapes.items()):
        value = random_tensor(*shape, seed=index)
        if name.endswith("weight_g"):
            value = 1 + 0.2 * value
            if ".conv_t1." in name:
                cin, cout, kernel = shapes[name.replace("weight_g", "weight_v")]
                value *= math.sqrt(cout * kernel / 2 / cin)
            elif "res_unit" in name:
                value *= 0.5
        elif not name.endswith("weight_v"):
            value *= 0.3
        state[name] = value
    return state


class Pair:
    """Ours and theirs from one published state."""

    def __init__(self, dtype: torch.dtype, how: Fold = fold):
        self.dtype = dtype
        state = {name: tensor.to(dtype) for name, tensor in published_weights().items()}
        self.ours = on_meta(lambda: Oobleck(CONFIG))
        device = torch.device("cpu")
        materialise(self.ours, lambda name: how(name, state.__getitem__), device=device, dtype=dtype)
        theirs = diffusers_vae.AutoencoderOobleck(
            encoder_hidden_size=CONFIG.encoder_hidden_size,
            downsampling_ratios=CONFIG.downsampling_ratios,
            channel_multiples=CONFIG.channel_multiples,
            decoder_channels=CONFIG.decoder_channels,
            decoder_input_channels=CONFIG.decoder_input_channels,
            audio_channels=CONFIG.audio_channels,
            sampling_rate=CONFIG.sampling_rate,
        )
        self.theirs = load(theirs, state, dtype)

    def latents(self, batch: int, frames: int) -> Tensor:
        return random_tensor(batch, CONFIG.decoder_input_channels, frames, seed=1, dtype=self.dtype)

    def audio(self, batch: int, samples: int) -> Tensor:
        return random_tensor(batch, CONFIG.audio_channels, samples, seed=2, dtype=self.dtype)

    def oracle_decode(self, latents: Tensor) -> Tensor:
        return self.theirs.decode(latents, return_dict=False)[0]

    def oracle_encode(self, audio: Tensor) -> Tensor:
        return self.theirs.encode(audio, return_dict=False)[0].mean


SNAKES: dict[str, Callable[[vae.Snake, Tensor], Tensor]] = {
    "ours": lambda snake, x: snake(x),
    "rounded after each step": lambda snake, x: (x * snake.frequency).sin().square() * snake.gain + x,
    "root of the gain squared": lambda snake, x: (
        ((x * snake.frequency).sin() * snake.gain.sqrt()).square() + x
    ),
}


def snake_errors(dtype: torch.dtype) -> dict[str, float]:
    """Relative RMS of each form of SNAKES at `dtype`, against the formula in fp64 from the same tensors."""
    snake = vae.Snake(32).requires_grad_(False)
    for seed, parameter in enumerate((snake.frequency, snake.gain)):
        parameter.copy_((0.5 * random_tensor(*parameter.shape, seed=seed)).exp())
    snake, x = snake.to(dtype), random_tensor(1, 32, 4096, seed=2, dtype=dtype)
    frequency, gain, wide = snake.frequency.double(), snake.gain.double(), x.double()
    exact = wide + (frequency * wide).sin() ** 2 * gain
    errors = {name: form(snake, x).double() - exact for name, form in SNAKES.items()}
    return {name: float(error.norm() / exact.norm()) for name, error in errors.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_snake_is_no_farther_from_fp64_than_rounded_after_each_step(dtype: torch.dtype) -> None:
    """By about 7 % nearer: 4.2e-8 for 4.5e-8 in fp32, 2.8e-3 for 3.0e-3 in bf16. The control is farther."""
    ours, rounded, control = snake_errors(dtype).values()
    assert 0 < ours <= rounded < control


@DTYPES
@pytest.mark.parametrize(("batch", "frames"), [(1, 1), (2, 2), (3, 7), (1, 20)])
def test_decode(batch: int, frames: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    latents = pair.latents(batch, frames)
    ours = pair.ours.decoder(latents)
    assert ours.shape == (batch, 2, HOP * frames)
    assert_close(ours, pair.oracle_decode(latents), LIMITS[dtype], "VAE decode")


@DTYPES
@pytest.mark.parametrize(("batch", "samples"), [(1, HOP), (2, 2 * HOP - 1), (3, 5 * HOP + 1), (1, 12_345)])
def test_encode_gives_the_mean(batch: int, samples: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    audio = pair.audio(batch, samples)
    ours = pair.ours.encode(audio)
    assert ours.shape == (batch, CONFIG.decoder_input_channels, samples // HOP)
    assert_close(ours, pair.oracle_encode(audio), LIMITS[dtype], "VAE encode")


def tiled(pair: Pair, latents: Tensor, tile: int, halo: int) -> Tensor:
    """Decode in tiles at the pair's own precision (`acestep.audio.decode.decode` returns fp32)."""
    pieces, done, frames = [], 0, latents.shape[-1]
    while done < frames:
        now = next_tile(done, frames, tile, halo)
        piece = pair.ours.decoder(latents[..., now.start : now.start + tile])
        pieces.append(piece[..., (done - now.start) * HOP : (now.keep_to - now.start) * HOP])
        done = now.keep_to
    return torch.cat(pieces, dim=-1)


@pytest.mark.parametrize(("frames", "tile"), [(5, 24), (24, 24), (25, 24), (43, 24), (40, 19), (60, 33)])
def test_tiles_make_one_pass(frames: int, tile: int) -> None:
    """Shorter than a tile, exactly one, one more, with the least that halos leave, and several."""
    pair = Pair(torch.float64)
    latents = pair.latents(1, frames)
    ours, theirs = tiled(pair, latents, tile, pair.ours.decoder.halo), pair.oracle_decode(latents)
    assert_close(ours, theirs, LIMITS[torch.float64], "VAE decode, tiled")


def test_a_halo_of_8_is_noticed() -> None:
    pair = Pair(torch.float64)
    assert pair.ours.decoder.halo == 9
    latents = pair.latents(1, 43)
    ours, theirs = tiled(pair, latents, 24, 8), pair.oracle_decode(latents)
    assert_trips(ours, theirs, LIMITS[torch.float64], "VAE decode, tiled", "halo of 8 frames for 9")


BUDGET = SimpleNamespace(free_bytes=lambda: 16 * GIB)


def test_the_engines_decode_is_the_oracles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VAE_CHUNK, "24")
    pair = Pair(torch.float32)
    latents = pair.latents(2, 43)
    ours = decode(pair.ours.decoder, latents.transpose(1, 2), HOP, BUDGET)
    assert ours.tiles > 2
    assert_close(ours.audio, pair.oracle_decode(latents), LIMITS[torch.float32], "VAE decode, tiled")


def encode_tiled(pair: Pair, audio: Tensor, tile: int) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_module, "tile_frames", lambda *_: tile)
        done = encode(pair.ours.encoder, audio, HOP, BUDGET, audio.device, pair.dtype)
    return done.latents.transpose(1, 2)


@DTYPES
@pytest.mark.parametrize(
    ("samples", "tile"),
    [(HOP, 16), (5 * HOP + 1, 16), (43 * HOP - 1, 15), (43 * HOP, 24), (40 * HOP + 955, 33)],
)
def test_tiled_encode(samples: int, tile: int, dtype: torch.dtype) -> None:
    """Tails of nothing, a sample, half a frame and all but a sample."""
    pair = Pair(dtype)
    audio = pair.audio(2, samples)
    ours = encode_tiled(pair, audio, tile)
    assert_close(ours, pair.oracle_encode(audio), LIMITS[dtype], "VAE encode, tiled")


def test_a_halo_of_6_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    assert pair.ours.encoder.halo == 7
    monkeypatch.setattr(pair.ours.encoder, "halo", 6)
    audio = pair.audio(1, 100 * HOP + 955)
    ours, theirs = encode_tiled(pair, audio, 16), pair.oracle_encode(audio)
    limit, control = LIMITS[torch.float64], "halo of 6 frames for 7"
    assert_trips(ours, theirs, limit, "VAE encode, tiled", control)


def test_a_tail_left_out_is_noticed() -> None:
    pair = Pair(torch.float64)
    audio = pair.audio(1, 43 * HOP + 955)
    ours, theirs = encode_tiled(pair, audio[..., : 43 * HOP], 24), pair.oracle_encode(audio)
    limit, control = LIMITS[torch.float64], "tail of the last frame left out"
    assert_trips(ours, theirs, limit, "VAE encode, tiled", control)


def _folded(leaf: str, change: Callable[[str, Callable[[str], Tensor]], Tensor]) -> Fold:
    """`fold`, but parameters called `leaf` become what `change` of their owner makes of the file."""

    def damaged(name: str, read: Callable[[str], Tensor]) -> Tensor:
        owner, _, last = name.rpartition(".")
        return change(owner, read) if last == leaf else fold(name, read)

    return damaged


def _norm(axes: tuple[int, ...], only: str = "") -> Fold:
    def change(owner: str, read: Callable[[str], Tensor]) -> Tensor:
        if only not in owner:
            return fold(f"{owner}.weight", read)
        v, g = read(f"{owner}.weight_v"), read(f"{owner}.weight_g")
        return g * v / v.square().sum(axes, keepdim=True).sqrt()

    return _folded("weight", change)


CONTROLS: dict[str, Fold] = {
    "transposed norm over inputs for outputs": _norm((0, 2), only="conv_t1"),
    "norm over everything": _norm((0, 1, 2)),
    "norm over the kernel only": _norm((2,)),
    "length dropped": _folded("weight", lambda o, read: fold(f"{o}.weight", read) / read(f"{o}.weight_g")),
    "bias dropped": _folded("bias", lambda o, read: 0 * read(f"{o}.bias")),
    "alpha not a logarithm": _folded("frequency", lambda o, read: read(f"{o}.alpha")),
    "beta for its inverse": _folded("gain", lambda o, read: read(f"{o}.beta").exp()),
    "alpha and beta swapped": _folded("frequency", lambda o, read: read(f"{o}.beta").exp()),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_to_the_weights_is_noticed(control: str) -> None:
    pair = Pair(torch.float64, CONTROLS[control])
    latents, audio = pair.latents(1, 5), pair.audio(1, 5 * HOP)
    limit = LIMITS[torch.float32]
    assert_trips(pair.ours.decoder(latents), pair.oracle_decode(latents), limit, "VAE decode", control)
    if "transposed" not in control:
        assert_trips(pair.ours.encode(audio), pair.oracle_encode(audio), limit, "VAE encode", control)


def test_damage_to_the_structure_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "DILATIONS", (9, 3, 1))
    pair = Pair(torch.float64)
    latents, limit = pair.latents(1, 5), LIMITS[torch.float32]
    control = "dilations in the other order"
    assert_trips(pair.ours.decoder(latents), pair.oracle_decode(latents), limit, "VAE decode", control)


def test_the_spread_for_the_mean_is_noticed() -> None:
    pair = Pair(torch.float64)
    audio = pair.audio(2, 5 * HOP)
    spread = pair.ours.encoder(audio).chunk(2, dim=1)[1]
    limit, control = LIMITS[torch.float32], "spread for the mean"
    assert_trips(spread, pair.oracle_encode(audio), limit, "VAE encode", control)
