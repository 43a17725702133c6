"""Decoding on a card that is short of memory: down every rung the audio is that of one pass."""

import pytest
import torch
from tiny_vae import HOP, one_pass, random_latents, relative_error, tiny_decoder

from acestep.audio.decode import decode
from acestep.audio.tile_size import VAE_CHUNK
from harness.device import VIRTUAL
from harness.memory import GIB
from harness.virtual_card import VirtualBudget, VirtualCard

FRAMES = 600
LATENTS = random_latents(1, FRAMES)


@pytest.fixture(scope="module")
def decoder():
    return tiny_decoder(torch.float32)


@pytest.fixture(scope="module")
def tile_bytes(decoder):
    """What a tile of 64 frames takes at most, its window included."""
    window = LATENTS[:, :64].float().transpose(1, 2)
    with VirtualCard(64 * GIB) as card, torch.inference_mode():
        there = decoder.to(VIRTUAL)
        weights = card.used_bytes()
        there(window.to(VIRTUAL))
        decoder.to("cpu")
    return card.peak_bytes() - weights


@pytest.fixture(scope="module")
def expected(decoder):
    return one_pass(decoder, LATENTS.float())


AUDIO_BYTES = 2 * HOP * FRAMES * 4


@pytest.mark.parametrize(
    ("audio_bytes", "tiles", "level", "tile", "fallbacks"),
    [
        (AUDIO_BYTES, 10, 1, 512, 0),
        (AUDIO_BYTES, 1.2, 1, 64, 3),
        (0, 1.2, 2, 64, 4),
        (0, 0.5, 3, 128, 5),
    ],
)
def test_the_ladder_down_to_the_cpu(
    decoder, tile_bytes, expected, monkeypatch, audio_bytes, tiles, level, tile, fallbacks
):
    """From 512 frames to 64, then the audio to the host, then the VAE: the audio is that of one pass.

    The card has room for weights and latents, `audio_bytes`, and so many `tiles` of 64 frames.
    """
    monkeypatch.setenv(VAE_CHUNK, "512")
    latents = LATENTS.float()
    resident = latents.nbytes + sum(p.nbytes for p in decoder.parameters())
    card = VirtualCard(int(resident + audio_bytes + tiles * tile_bytes))
    budget = VirtualBudget(card)
    monkeypatch.setattr(budget, "free_bytes", lambda: 64 * GIB)  # so that the ladder starts at its top
    with card, torch.inference_mode():
        done = decode(decoder.to(VIRTUAL), latents.to(VIRTUAL), HOP, budget)
        audio = done.audio.cpu()
        decoder.to("cpu")
    assert (done.level, done.tile_frames, len(done.fallbacks)) == (level, tile, fallbacks)
    assert all("more were asked for" in str(fallback) for fallback in done.fallbacks)
    assert relative_error(audio, expected) < 1e-5
    assert relative_error(audio.roll(1, dims=-1), expected) > 1e-3  # what one sample of a shift would be
