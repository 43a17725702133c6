"""Tiling: the pieces are the whole, and the halo is exactly as wide as it must be."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acestep.checkpoint import materialise, on_meta
from acestep.decode import decode, tiles
from acestep.models.configs import VAEConfig, parse_config
from acestep.models.vae import Oobleck, OobleckDecoder, fold
from acestep.sources import VAE
from acestep.synthetic import Synthetic

HOP = 1920


@pytest.fixture(scope="module")
def decoder() -> OobleckDecoder:
    source = Synthetic("synthetic-tiny")
    config = parse_config(source.config(VAE), VAEConfig, "tiny")
    model = on_meta(lambda: Oobleck(config))
    read = source.weights(VAE).read
    materialise(
        model.decoder,
        lambda n: fold(n, read),
        prefix="decoder.",
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    return model.decoder


@given(frames=st.integers(1, 3000), tile=st.integers(19, 600))
def test_kept_stretches_partition_the_song(frames: int, tile: int):
    pieces = list(tiles(frames, tile, halo=9))
    assert [a for _, a, _ in pieces] == [0, *[b for _, _, b in pieces[:-1]]]
    assert pieces[-1][2] == frames
    for start, keep_from, keep_to in pieces:
        end = min(start + tile, frames)
        assert start == 0 or keep_from - start >= 9
        assert end == frames or end - keep_to >= 9
        assert start + tile <= frames or start == 0


def test_a_tile_of_nothing_but_halo_is_refused():
    with pytest.raises(ValueError, match="at least 19"):
        list(tiles(100, 18, halo=9))


def _relative_error(decoder: OobleckDecoder, frames: int, tile: int) -> float:
    latents = torch.randn(2, frames, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(frames))
    with torch.inference_mode():
        whole = decoder(latents.transpose(1, 2))
        tiled, _ = decode(decoder.double(), latents, tile, HOP)
    return ((whole - tiled).square().mean() / whole.square().mean()).sqrt().item()


@pytest.mark.parametrize("frames", [1, 9, 31, 32, 33, 47, 64, 101])
def test_tiled_decode_equals_the_untiled_one(decoder: OobleckDecoder, frames: int):
    assert _relative_error(decoder, frames, tile=32) < 1e-7  # the waveform is kept in fp32


def test_one_frame_less_halo_is_not_enough(decoder: OobleckDecoder, monkeypatch: pytest.MonkeyPatch):
    assert decoder.halo == 9
    monkeypatch.setattr(decoder, "halo", 8)
    assert _relative_error(decoder, 101, tile=32) > 1e-7
    monkeypatch.setattr(decoder, "halo", 4)
    assert _relative_error(decoder, 101, tile=32) > 1e-4
