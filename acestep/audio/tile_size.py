"""The tile size of the VAE: what fits the memory that is free, or what the user says."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.checks import one_of, within
from harness.memory import GIB

TILE_FRAMES = 512  # with room to spare
TILE_LADDER = ((0.5 * GIB, 64), (1.0 * GIB, 128), (2.5 * GIB, 256))  # below this many free bytes: frames

VAE_CHUNK = "ACESTEP_VAE_DECODE_CHUNK_SIZE"
VAE_CHUNK_RANGE = (19, 4096)  # a frame between the decoder's two halos of 9; nearly three minutes
VAE_ON_CPU = "ACESTEP_VAE_ON_CPU"


def tile_frames(free_bytes: int, element_bytes: int = 2) -> int:
    """Latent frames per VAE tile, overlap included, that fit in `free_bytes`.

    A frame costs about 2.6 MB of activations in 16 bit, so 512 frames peak near 1.3 GB; the steps
    leave that much again for the allocator's rounding. Wider elements need as much more. 25 latent
    frames are one second of audio.
    """
    room = free_bytes * 2 // element_bytes
    return next((frames for below, frames in TILE_LADDER if room < below), TILE_FRAMES)


@dataclass(frozen=True, slots=True)
class VAEOverrides:
    """What the environment says of VAE decode: frames of a tile, None for what fits; whether on the CPU."""

    tile_frames: int | None = None
    on_cpu: bool = False


def vae_overrides(environ: Mapping[str, str] = os.environ) -> VAEOverrides:
    """Read ACESTEP_VAE_DECODE_CHUNK_SIZE and ACESTEP_VAE_ON_CPU; empty is unset.

    Raises UsageError naming the variable and what it may be.
    """
    chunk, on_cpu = environ.get(VAE_CHUNK, ""), environ.get(VAE_ON_CPU, "")
    if chunk:
        number = int(chunk) if re.fullmatch("[0-9]{1,9}", chunk) else chunk
        within(VAE_CHUNK, number, *VAE_CHUNK_RANGE, int)
    if on_cpu:
        one_of(VAE_ON_CPU, on_cpu, ("0", "1"))
    return VAEOverrides(int(chunk) if chunk else None, on_cpu == "1")
