"""Encoding in tiles: what one pass gives, whatever the length, the tail and the tile."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from acestep.audio import encode as encode_module
from acestep.audio.encode import Encoded, encode
from acestep.models.configs import VAEConfig
from acestep.models.vae import Oobleck, OobleckEncoder
from harness.memory import GIB

CONFIG = VAEConfig(
    encoder_hidden_size=4,
    decoder_channels=1,
    decoder_input_channels=2,
    channel_multiples=[1, 1, 1, 2, 2],
    downsampling_ratios=[2, 4, 4, 6, 10],
    audio_channels=2,
    sampling_rate=48_000,
)
HOP = CONFIG.hop
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder() -> OobleckEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Oobleck(CONFIG).encoder.double().requires_grad_(False)


def random_wave(batch: int, samples: int) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    return torch.rand(batch, 2, samples, generator=generator) * 2 - 1


def run_tiled(encoder: OobleckEncoder, wave: Tensor, tile: int, dtype=torch.float64) -> Encoded:
    budget = SimpleNamespace(free_bytes=lambda: GIB)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(encode_module, "tile_frames", lambda free, width: tile)
        return encode(encoder, wave, HOP, budget, CPU, dtype)


def one_pass(encoder: OobleckEncoder, wave: Tensor) -> Tensor:
    with torch.inference_mode():
        return encoder(wave.double()).chunk(2, dim=1)[0].transpose(1, 2)


def relative_error(ours: Tensor, whole: Tensor) -> float:
    return ((ours - whole).square().mean() / whole.square().mean()).sqrt().item()


@settings(max_examples=settings.default.max_examples // 10, deadline=None)
@example(frames=50, tail=HOP - 1, tile=15)
@given(frames=st.integers(1, 30), tail=st.integers(0, HOP - 1), tile=st.integers(15, 36))
def test_tiles_are_one_pass(encoder: OobleckEncoder, frames: int, tail: int, tile: int):
    wave = random_wave(2, frames * HOP + tail)
    done = run_tiled(encoder, wave, tile)
    assert done.latents.shape == (2, frames, 2)
    assert done.tiles == 2 if frames <= tile else done.tiles > 2
    assert relative_error(done.latents, one_pass(encoder, wave)) < 1e-12


def test_one_frame_less_halo_is_not_enough(encoder: OobleckEncoder, monkeypatch: pytest.MonkeyPatch):
    assert encoder.halo == 7
    monkeypatch.setattr(encoder, "halo", 6)
    wave = random_wave(1, 100 * HOP + 7)
    assert relative_error(run_tiled(encoder, wave, 20).latents, one_pass(encoder, wave)) > 1e-10


def test_the_last_frame_hears_the_tail(encoder: OobleckEncoder):
    """Why windows carry it: without, the last frame would be another."""
    wave = random_wave(1, 40 * HOP + 1000)
    whole, cut = one_pass(encoder, wave), one_pass(encoder, wave[..., : 40 * HOP])
    assert relative_error(cut[:, -1], whole[:, -1]) > 1e-3
    assert torch.equal(cut[:, :30], whole[:, :30])


def test_all_windows_have_one_shape_and_the_asked_dtype(encoder: OobleckEncoder):
    seen = []
    hook = encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].shape))
    done = run_tiled(encoder, random_wave(1, 70 * HOP + 123), 32)
    hook.remove()
    assert seen == [(1, 2, 32 * HOP + 123)] * done.tiles
    single = run_tiled(Oobleck(CONFIG).encoder, random_wave(1, 3 * HOP), 32, torch.float32)
    assert single.latents.dtype == torch.float32


def test_tiles_shrink_when_memory_runs_out(encoder: OobleckEncoder):
    def refuse(_, arguments: tuple[Tensor]) -> None:
        if arguments[0].shape[-1] > 70 * HOP:
            raise MemoryError

    wave = random_wave(1, 90 * HOP + 5)
    hook = encoder.register_forward_pre_hook(refuse)
    done = run_tiled(encoder, wave, 512)
    hook.remove()
    assert [f.action for f in done.fallbacks] == ["went on with tiles of 64 frames on the device"]
    assert done.tiles == 2
    assert relative_error(done.latents, one_pass(encoder, wave)) < 1e-12


def test_less_than_a_frame_is_refused(encoder: OobleckEncoder):
    with pytest.raises(ValueError, match="1919 samples are less than one frame of 1920"):
        run_tiled(encoder, random_wave(1, HOP - 1), 32)
