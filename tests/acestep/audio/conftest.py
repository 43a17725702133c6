"""A small decoder, and a size of tile that nobody names."""

import pytest
from tiny_vae import tiny_decoder

from acestep.audio.tile_size import VAE_CHUNK, VAE_ON_CPU
from acestep.models.vae import OobleckDecoder


@pytest.fixture(scope="module")
def decoder() -> OobleckDecoder:
    return tiny_decoder()


@pytest.fixture(autouse=True)
def _no_overrides(monkeypatch: pytest.MonkeyPatch):
    for name in (VAE_CHUNK, VAE_ON_CPU):
        monkeypatch.delenv(name, raising=False)
