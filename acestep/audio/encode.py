"""VAE encode: waveform to latents, in the same exact tiles as decode, cut at whole frames.

A song of N samples is floor(N / hop) frames and a tail of less than one. The tail has no frame of its
own but the last one hears it, so every window ends with as many samples more: to the others they are
a little extra halo, and all windows keep one shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acestep.audio.tile_size import tile_frames
from acestep.models.vae import OobleckEncoder
from harness.adjustments import Fallback
from harness.memory import MemoryBudget, hand_back
from harness.tiling import Rung, Tile, run, rungs


@dataclass(frozen=True, slots=True)
class Encoded:
    """`latents [B, N // hop, 64]`, how many tiles it took, and what memory did not allow."""

    latents: Tensor
    tiles: int
    fallbacks: tuple[Fallback, ...] = ()


def encode(
    encoder: OobleckEncoder,
    wave: Tensor,
    hop: int,
    budget: MemoryBudget,
    device: torch.device,
    dtype: torch.dtype,
) -> Encoded:
    """Mean latents, in `dtype` on `device`, of `wave [B, 2, N]` fp32 on any device.

    The encoder is on `device` in `dtype`; windows go to it one at a time. At the widest level a frame
    costs what it costs the decoder, so tiles follow the same table; after an out-of-memory they are
    halved. Raises ValueError for a wave shorter than a frame (pad it), and the allocator's own error
    when the smallest tile does not fit.
    """
    batch, _, samples = wave.shape
    frames, tail = divmod(samples, hop)
    if frames == 0:
        raise ValueError(f"wave: {samples} samples are less than one frame of {hop}; pad it")
    latents = torch.empty(batch, frames, encoder.conv2.out_channels // 2, dtype=dtype, device=device)

    def work(rung: Rung, item: int, tile: Tile) -> None:
        end = (tile.start + rung.tile) * hop + tail
        window = wave[item : item + 1, :, tile.start * hop : end].to(device, dtype)
        mean, _ = encoder(window)[0].T.chunk(2, dim=1)
        inside = slice(tile.keep_from - tile.start, tile.keep_to - tile.start)
        latents[item, tile.keep_from : tile.keep_to] = mean[inside]

    hand_back()  # what the allocator only keeps is room for tiles
    size = tile_frames(budget.free_bytes(), dtype.itemsize)
    done = run("vae_encode", rungs(1, size, frames, device.type), batch, frames, encoder.halo, work)
    return Encoded(latents, done.tiles, done.fallbacks)
