"""Latents to waveform in tiles.

A tile's outer frames lack neighbours, so only what lies `halo` frames inside it is kept, except at
the ends of the song. With the decoder's own dependency cone as halo (9 frames) the pieces are what
one pass would give, and no more is recomputed than must be. All tiles of a song have one shape.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from acestep.models.vae import OobleckDecoder
from acestep.spans import span


def tiles(frames: int, tile: int, halo: int) -> Iterator[tuple[int, int, int]]:
    """`(start, keep_from, keep_to)`: decode `[start, start + tile)`, keep frames `[keep_from, keep_to)`.

    The kept stretches partition `[0, frames)`. A song no longer than a tile is one tile.
    Raises ValueError when `tile` leaves nothing inside its halos.
    """
    if frames <= tile:
        yield 0, 0, frames
        return
    if tile <= 2 * halo:
        raise ValueError(
            f"tile: {tile} frames hold nothing between halos of {halo}; use at least {2 * halo + 1}"
        )
    done = 0
    while done < frames:
        start = min(max(done - halo, 0), frames - tile)
        end = start + tile
        keep_to = frames if end == frames else end - halo
        yield start, done, keep_to
        done = keep_to


def decode(decoder: OobleckDecoder, latents: Tensor, tile: int, hop: int) -> tuple[Tensor, int]:
    """fp32 waveform `[B, 2, hop·T]` of `latents [B, T, 64]`, and the number of tiles decoded.

    Items are decoded one after another: batching them would multiply the peak, not the speed.
    """
    batch, frames, _ = latents.shape
    audio = torch.empty(batch, 2, hop * frames, dtype=torch.float32, device=latents.device)
    count = 0
    for item, latent in enumerate(latents.transpose(1, 2)):
        for start, keep_from, keep_to in tiles(frames, tile, decoder.halo):
            with span("tile"):
                piece = decoder(latent[None, :, start : start + tile])[0]
                inside = piece[:, (keep_from - start) * hop : (keep_to - start) * hop]
                audio[item, :, keep_from * hop : keep_to * hop] = inside
            count += 1
    return audio, count
