"""VAE decode: latents to waveform in exact tiles, with fallbacks where memory is short.

    level 1   tiles on the device, the waveform kept there: it has room for both and 1 GiB more
    level 2   tiles on the device, each one's audio copied to the host
    level 3   tiles on the CPU in fp32: many times slower, and needs no device memory

When memory runs out the tile is halved, down to 64 frames, and then the next level is taken; what is
decoded is kept. Level 3 is tiled like the others: at 5.7 MB of fp32 activations per frame, one pass
over four minutes would want 34 GB of host memory. On a CPU device only level 1 exists.

What a tile runs, eager, compiled or recorded, is `tile`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.audio.tile import STAGE, Tiles
from acestep.audio.tile_size import tile_frames, vae_overrides
from acestep.models.vae import OobleckDecoder
from harness.adjustments import Fallback
from harness.memory import GIB, MemoryBudget, hand_back
from harness.tiling import Rung, Tile, run, rungs

HOST = torch.device("cpu")
ON_HOST = 3  # the level
HOST_FRAMES = 128  # of a tile at level 3: 0.76 GB in fp32
LIVE_ACTIVATIONS = 5.3  # widest tensors alive at once: 2.6 MB per frame of the published width in 16 bit


@dataclass(frozen=True, slots=True)
class Decoded:
    """`audio` fp32 `[B, 2, hop·T]` on the device (level 1) or the host, and how it was come by.

    `tiles`: how many were decoded. `level` and `tile_frames`: where the ladder was left.
    """

    audio: Tensor
    tiles: int
    level: int
    tile_frames: int
    fallbacks: tuple[Fallback, ...] = ()


def prepare(tiles: Tiles, latents: Tensor, hop: int, budget: MemoryBudget) -> None:
    """Compile and record what `decode` starts with, as far as `tiles` are to: a stage `compile`."""
    if not tiles.prepares:
        return
    (rung, *_), _ = _ladder(tiles.decoder, latents, hop, budget)
    batch, frames, channels = latents.shape
    if rung.level != ON_HOST:
        window = latents.new_zeros(1, channels, rung.tile)
        tiles.prepare(window, hop, repeated=batch > 1 or frames > rung.tile)


def decode(
    decoder: OobleckDecoder, latents: Tensor, hop: int, budget: MemoryBudget, tiles: Tiles | None = None
) -> Decoded:
    """Decode `latents [B, T, 64]`, `hop` samples per frame, within what `budget` has left.

    `tiles`: those of the decoder, where something was prepared. The decoder is expected where the latents
    are; one left on the host is run there (level 3).
    Items are decoded one after another: batching them would multiply the peak, not the speed.
    Raises UsageError for a bad override in the environment (`harness.memory.vae_overrides`), and the
    allocator's own error when the last rung does not fit either.
    """
    batch, frames, _ = latents.shape
    ladder, fallbacks = _ladder(decoder, latents, hop, budget)
    tiles = tiles or Tiles(decoder)
    song = _Song(tiles, latents, hop)
    done = run(STAGE, ladder, batch, frames, decoder.halo, song.decode)
    return Decoded(
        audio=song.audio(done.rung.level),
        tiles=done.tiles,
        level=done.rung.level,
        tile_frames=done.rung.tile,
        fallbacks=fallbacks + done.fallbacks + tiles.fallbacks,
    )


class _Song:
    """The waveform in the making. Where it lies and what decodes it follow the level."""

    def __init__(self, tiles: Tiles, latents: Tensor, hop: int):
        self._tiles = tiles
        self._latents = latents
        self._hop = hop
        self._audio: Tensor | None = None
        self._host_weights: dict[str, Tensor] = {}

    def decode(self, rung: Rung, item: int, tile: Tile) -> None:
        audio = self.audio(rung.level)
        window = self._latents[item : item + 1, tile.start : tile.start + rung.tile].transpose(1, 2)
        piece = self._on_host(window) if rung.level == ON_HOST else self._tiles(window)
        start, keep_from, keep_to = (self._hop * n for n in (tile.start, tile.keep_from, tile.keep_to))
        audio[item, :, keep_from:keep_to] = piece[0, :, keep_from - start : keep_to - start]

    def audio(self, level: int) -> Tensor:
        """The waveform so far, at the level's place.

        Host memory is not pinned: the 8 MB of a tile are nothing beside its 2.5 TFLOP.
        """
        place = self._latents.device if level == 1 else HOST
        if self._audio is None:
            batch, frames, _ = self._latents.shape
            self._audio = torch.empty(batch, 2, self._hop * frames, dtype=torch.float32, device=place)
        self._audio = self._audio.to(place)
        return self._audio

    def _on_host(self, window: Tensor) -> Tensor:
        """Run the decoder on fp32 copies of its weights; its own stay as and where they are."""
        if not self._host_weights:
            named = self._tiles.decoder.named_parameters()
            self._host_weights = {name: weight.to(HOST, torch.float32) for name, weight in named}
        return self._tiles.by(self._host_weights, window.to(HOST, torch.float32))


def _ladder(
    decoder: OobleckDecoder, latents: Tensor, hop: int, budget: MemoryBudget
) -> tuple[list[Rung], tuple[Fallback, ...]]:
    """The rungs to try in order, and a fallback when the device is left out for want of memory."""
    overrides = vae_overrides()
    batch, frames, _ = latents.shape
    device, weight = latents.device.type, decoder.conv2.weight
    hand_back()  # what the allocator only keeps is room for tiles
    free_bytes = budget.free_bytes()
    tile = overrides.tile_frames or tile_frames(free_bytes, weight.element_size())
    on_device = rungs(1, tile, frames, device)
    if device == "cpu":
        return on_device, ()
    host_tile = overrides.tile_frames or tile_frames(MemoryBudget("cpu").free_bytes(), torch.float32.itemsize)
    on_host = rungs(ON_HOST, min(host_tile, HOST_FRAMES), frames, "cpu")
    if overrides.on_cpu or weight.device.type != device:
        return on_host, ()
    frame_bytes = LIVE_ACTIVATIONS * weight.shape[1] * hop * weight.element_size()
    least_bytes = on_device[-1].tile * frame_bytes
    if free_bytes < least_bytes:
        reason = f"{free_bytes / 1e6:.0f} MB free, the smallest tile takes {least_bytes / 1e6:.0f} MB"
        return on_host, (Fallback(STAGE, reason, f"decoded in {on_host[0]}"),)
    audio_bytes = batch * 2 * hop * frames * torch.float32.itemsize
    if free_bytes < audio_bytes + on_device[0].tile * frame_bytes + GIB:
        return [*(Rung(2, rung.tile) for rung in on_device), *on_host], ()
    return [*on_device, Rung(2, on_device[-1].tile), *on_host], ()
