"""VAE decode: latents to waveform in exact tiles, with fallbacks where memory is short.

    level 1   tiles on the device, the waveform kept there: it has room for both and 1 GiB more
    level 2   tiles on the device, each one's audio copied to the host
    level 3   tiles on the CPU in fp32: many times slower, and needs no device memory

When memory runs out the tile is halved, down to 64 frames, and then the next level is taken; what is
decoded is kept. Level 3 is tiled like the others: at 5.7 MB of fp32 activations per frame, one pass
over four minutes would want 34 GB of host memory. On a CPU device only level 1 exists. A stream starts at
level 2, with tiles as long as its pieces want them.

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
from harness.tiling import Progress, Rung, Tile, rungs

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


def prepare(
    tiles: Tiles, latents: Tensor, hop: int, budget: MemoryBudget, longest: int | None = None
) -> None:
    """Compile and record what `decode` starts with, or a `Song` of tiles no longer than `longest`, as far as
    `tiles` are to: a stage `compile`."""
    if not tiles.prepares:
        return
    (rung, *_), _ = _ladder(tiles.decoder, latents, hop, budget, longest)
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
    song = Song(tiles or Tiles(decoder), latents, hop, budget)
    song.reach(song.frames)
    return song.decoded


class Song:
    """A batch of waveforms in the making: as far as `reach` was told, each item from its beginning.

    Where it lies and what decodes it follow the level.
    """

    def __init__(
        self, tiles: Tiles, latents: Tensor, hop: int, budget: MemoryBudget, longest: int | None = None
    ):
        """`longest`: most frames of a tile, where the audio is wanted on the host piece by piece."""
        ladder, self._fallbacks = _ladder(tiles.decoder, latents, hop, budget, longest)
        self._tiles = tiles
        self._latents = latents
        self._hop = hop
        self._audio: Tensor | None = None
        self._host_weights: dict[str, Tensor] = {}
        self._progress = Progress(STAGE, ladder, tiles.decoder.halo, self._decode)

    @property
    def frames(self) -> int:
        """Of each item."""
        return self._latents.shape[1]

    def reach(self, frames: int) -> None:
        """Decode every item as far as its first `frames`, one after another. Raises as `decode` does."""
        for item in range(len(self._latents)):
            self._progress.reach(item, frames, self.frames)

    @property
    def audio(self) -> Tensor:
        """The waveforms `[B, 2, hop·T]`; beyond what was reached they have no values yet."""
        return self._at(self._progress.run.rung.level)

    @property
    def decoded(self) -> Decoded:
        """What there is so far."""
        run = self._progress.run
        return Decoded(
            audio=self.audio,
            tiles=run.tiles,
            level=run.rung.level,
            tile_frames=run.rung.tile,
            fallbacks=self._fallbacks + run.fallbacks + self._tiles.fallbacks,
        )

    def _decode(self, rung: Rung, item: int, tile: Tile) -> None:
        audio = self._at(rung.level)
        window = self._latents[item : item + 1, tile.start : tile.start + rung.tile].transpose(1, 2)
        piece = self._on_host(window) if rung.level == ON_HOST else self._tiles(window)
        start, keep_from, keep_to = (self._hop * n for n in (tile.start, tile.keep_from, tile.keep_to))
        audio[item, :, keep_from:keep_to] = piece[0, :, keep_from - start : keep_to - start]

    def _at(self, level: int) -> Tensor:
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
    decoder: OobleckDecoder, latents: Tensor, hop: int, budget: MemoryBudget, longest: int | None = None
) -> tuple[list[Rung], tuple[Fallback, ...]]:
    """The rungs to try in order, and a fallback when the device is left out for want of memory.

    `longest`: no tile has more frames, and the audio goes to the host.
    """
    overrides = vae_overrides()
    batch, frames, _ = latents.shape
    device, weight = latents.device.type, decoder.conv2.weight
    hand_back()  # what the allocator only keeps is room for tiles
    free_bytes = budget.free_bytes()
    tile = overrides.tile_frames or tile_frames(free_bytes, weight.element_size())
    on_device = rungs(1, min(tile, longest or tile), frames, device)
    if device == "cpu":
        return on_device, ()
    host_tile = overrides.tile_frames or tile_frames(MemoryBudget("cpu").free_bytes(), torch.float32.itemsize)
    on_host = rungs(ON_HOST, min(host_tile, HOST_FRAMES, longest or HOST_FRAMES), frames, "cpu")
    if overrides.on_cpu or weight.device.type != device:
        return on_host, ()
    frame_bytes = LIVE_ACTIVATIONS * weight.shape[1] * hop * weight.element_size()
    least_bytes = on_device[-1].tile * frame_bytes
    if free_bytes < least_bytes:
        reason = f"{free_bytes / 1e6:.0f} MB free, the smallest tile takes {least_bytes / 1e6:.0f} MB"
        return on_host, (Fallback(STAGE, reason, f"decoded in {on_host[0]}"),)
    audio_bytes = batch * 2 * hop * frames * torch.float32.itemsize
    if longest or free_bytes < audio_bytes + on_device[0].tile * frame_bytes + GIB:
        return [*(Rung(2, rung.tile) for rung in on_device), *on_host], ()
    return [*on_device, Rung(2, on_device[-1].tile), *on_host], ()
