"""Decoding in tiles: what one pass gives, down every step of the memory ladder."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_vae import HOP, Refusal, one_pass, random_latents, relative_error, tiny_decoder
from torch import Tensor

from acestep.audio import decode as decode_module
from acestep.audio.decode import Decoded, decode
from acestep.audio.tile_size import VAE_CHUNK, VAE_ON_CPU
from acestep.models.configs import VAEConfig
from acestep.models.vae import Oobleck, OobleckDecoder
from acestep.weights.layout import VAE
from acestep.weights.synthetic import Synthetic
from harness.checkpoint import on_meta
from harness.errors import UsageError
from harness.memory import GIB
from harness.nn.config import parse_config
from harness.tiling import Rung, rungs

PLENTY = 64 * GIB


def budget(free_bytes: float) -> SimpleNamespace:
    return SimpleNamespace(free_bytes=lambda: int(free_bytes))


def run_tiled(decoder: OobleckDecoder, latents: Tensor, tile: int) -> Decoded:
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setenv(VAE_CHUNK, str(tile))
        return decode(decoder, latents, HOP, budget(PLENTY))


@settings(max_examples=settings.default.max_examples // 10, deadline=None)
@example(frames=50, tile=19)
@given(frames=st.integers(1, 50), tile=st.integers(19, 60))
def test_tiles_are_one_pass(decoder: OobleckDecoder, frames: int, tile: int):
    """Computed in fp64, so after rounding to fp32 the two differ in no more than a stray last bit."""
    latents = random_latents(2, frames)
    done = run_tiled(decoder, latents, tile)
    assert done.audio.shape == (2, 2, HOP * frames)
    assert (done.audio.dtype, done.level, done.tile_frames) == (torch.float32, 1, min(tile, frames))
    assert relative_error(done.audio, one_pass(decoder, latents)) < 1e-9


@pytest.mark.parametrize(("halo", "error"), [(8, 1e-7), (4, 1e-4)])
def test_less_halo_is_not_enough(decoder, monkeypatch: pytest.MonkeyPatch, halo: int, error: float):
    assert decoder.halo == 9
    monkeypatch.setattr(decoder, "halo", halo)
    latents = random_latents(1, 101)
    assert relative_error(run_tiled(decoder, latents, 32).audio, one_pass(decoder, latents)) > error


def test_on_a_cpu_tiles_shrink_at_one_level(decoder: OobleckDecoder):
    latents = random_latents(1, 200)
    with Refusal(decoder, lambda window, _: window.shape[-1] <= 70) as card:
        done = decode(decoder, latents, HOP, budget(PLENTY))
    assert [frames for frames, _ in card.windows] == [200, 100, *[64] * done.tiles]
    assert (done.level, done.tile_frames, done.tiles, len(done.fallbacks)) == (1, 64, 4, 2)
    assert relative_error(done.audio, one_pass(decoder, latents)) < 1e-9


def test_down_the_whole_ladder(decoder: OobleckDecoder, monkeypatch: pytest.MonkeyPatch):
    """As on a card that decodes one tile and then has no room for any, at any level."""
    ladder = [*rungs(1, 128, 300, "cuda"), Rung(2, 64), Rung(3, 64)]
    monkeypatch.setattr(decode_module, "_ladder", lambda *_: (ladder, ()))
    before = {name: (p.data_ptr(), p.dtype) for name, p in decoder.named_parameters()}
    latents = random_latents(2, 300)
    fits = lambda window, count: count == 1 or window.dtype == torch.float32  # noqa: E731
    with Refusal(decoder, fits) as card:
        done = decode(decoder, latents, HOP, budget(PLENTY))
    assert [frames for frames, _ in card.windows[:5]] == [128, 128, 64, 64, 64]
    assert [dtype for _, dtype in card.windows] == [torch.float64] * 4 + [torch.float32] * (done.tiles - 1)
    assert (done.level, done.tile_frames, len(done.fallbacks)) == (3, 64, 3)
    assert done.fallbacks[-1].action == "went on with tiles of 64 frames on the CPU in fp32"
    assert {name: (p.data_ptr(), p.dtype) for name, p in decoder.named_parameters()} == before
    whole = one_pass(decoder, latents)
    assert relative_error(done.audio, whole) < 1e-5
    kept = slice(0, (128 - decoder.halo) * HOP)  # decoded before the fall, and not again in fp32
    assert relative_error(done.audio[0, :, kept], whole[0, :, kept]) < 1e-9


def test_other_errors_are_not_recovered(decoder: OobleckDecoder):
    with pytest.raises(RuntimeError, match="expected input"):
        decode(decoder, torch.zeros(1, 200, 63, dtype=torch.float64), HOP, budget(PLENTY))


META = torch.device("meta")


def ladder_of(
    free_bytes: float,
    frames: int = 6000,
    batch: int = 1,
    weights: torch.device = META,
    longest: int | None = None,
):
    """The ladder of the published decoder in 16 bit, its latents on an accelerator."""
    config = parse_config(Synthetic("synthetic-full").config(VAE), VAEConfig, "full")
    decoder = on_meta(lambda: Oobleck(config)).decoder.bfloat16()
    if weights != META:
        decoder.conv2 = torch.nn.Conv1d(128, 2, 7, dtype=torch.bfloat16, device=weights)
    latents = torch.empty(batch, frames, 64, dtype=torch.bfloat16, device=META)
    found, fallbacks = decode_module._ladder(decoder, latents, HOP, budget(free_bytes), longest)
    return [(rung.level, rung.tile) for rung in found], fallbacks


HOST_RUNGS = [(3, 128), (3, 64)]


def test_the_ladder_starts_where_memory_allows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_module, "MemoryBudget", lambda _: budget(PLENTY))
    full = [(1, 512), (1, 256), (1, 128), (1, 64), (2, 64), *HOST_RUNGS]
    assert ladder_of(PLENTY) == (full, ())
    # 240 s of audio are 92 MB and a tile of 512 frames 1.3 GB: level 1 wants a GiB beside them.
    assert ladder_of(2.6 * GIB)[0] == full
    assert ladder_of(2.6 * GIB, batch=8)[0] == [(2, 512), (2, 256), (2, 128), (2, 64), *HOST_RUNGS]
    assert ladder_of(0.6 * GIB)[0] == [(2, 128), (2, 64), *HOST_RUNGS]
    assert ladder_of(0.2 * GIB)[0] == [(2, 64), *HOST_RUNGS]


def test_too_little_for_the_smallest_tile_starts_on_the_cpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_module, "MemoryBudget", lambda _: budget(PLENTY))
    found, (fallback,) = ladder_of(0.15 * GIB)
    assert found == HOST_RUNGS
    assert str(fallback) == (
        "vae_decode: 161 MB free, the smallest tile takes 167 MB; "
        "decoded in tiles of 128 frames on the CPU in fp32"
    )
    assert ladder_of(0.15 * GIB, frames=40)[0] == [(2, 40), (3, 40)]  # a short song is a smaller tile


def test_level_3_is_tiled_by_host_memory_and_takes_a_decoder_left_on_the_host(monkeypatch):
    monkeypatch.setattr(decode_module, "MemoryBudget", lambda _: budget(0.9 * GIB))
    assert ladder_of(PLENTY, weights=torch.device("cpu")) == ([(3, 64)], ())


def test_a_stream_starts_with_tiles_of_its_pieces_whose_audio_goes_to_the_host(monkeypatch):
    monkeypatch.setattr(decode_module, "MemoryBudget", lambda _: budget(PLENTY))
    assert ladder_of(PLENTY, longest=43) == ([(2, 43), (3, 43)], ())
    assert ladder_of(PLENTY, longest=218) == ([(2, 218), (2, 109), (2, 64), *HOST_RUNGS], ())
    assert ladder_of(0.2 * GIB, longest=218) == ([(2, 64), *HOST_RUNGS], ())


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode_module, "MemoryBudget", lambda _: budget(PLENTY))
    monkeypatch.setenv(VAE_CHUNK, "1024")
    assert ladder_of(PLENTY)[0][:3] == [(1, 1024), (1, 512), (1, 256)]
    monkeypatch.setenv(VAE_ON_CPU, "1")
    assert ladder_of(PLENTY) == (HOST_RUNGS, ())
    monkeypatch.setenv(VAE_CHUNK, "48")
    assert ladder_of(PLENTY) == ([(3, 48)], ())
    monkeypatch.setenv(VAE_CHUNK, "9")
    with pytest.raises(UsageError, match=VAE_CHUNK):
        ladder_of(PLENTY)


@pytest.mark.gpu
@pytest.mark.parametrize("level", [1, 2, 3])
def test_on_a_real_card(level: int, monkeypatch: pytest.MonkeyPatch):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    decoder = tiny_decoder(torch.float32)
    latents = random_latents(2, 150).float()
    whole = one_pass(decoder, latents)
    decoder.cuda()
    ladder = [Rung(level, 64)]
    monkeypatch.setattr(decode_module, "_ladder", lambda *_: (ladder, ()))
    done = decode(decoder, latents.cuda(), HOP, budget(PLENTY))
    assert done.audio.device.type == ("cuda" if level == 1 else "cpu")
    assert next(decoder.parameters()).is_cuda
    assert relative_error(done.audio.cpu(), whole) < 1e-5
