"""Tiled decoding of long audio: exact tiles, and smaller ones where memory runs out. No torch import here.

A network of convolutions computes each frame from a bounded stretch around it, its `halo`. A tile's
outer frames lack neighbours, so only what lies a halo inside is kept, except at the ends of the song;
with the network's own dependency cone as halo the pieces are what one pass would give. All tiles of
one size have one shape, the last too: it reaches back instead of being short.

A rung is a size of tile and a place to run it. When memory runs out `run` steps down a rung and goes
on from the last finished tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.adjustments import Fallback
from harness.oom import attempt
from harness.spans import span

MIN_FRAMES = 64  # halving ends here: below it the halos are most of the work
MPS_FRAMES = 32  # Metal's convolutions stop at 65,536 positions, which is 34 frames at 48 kHz

LEVELS = {1: "on the device", 2: "on the device, audio on the host", 3: "on the CPU in fp32"}


@dataclass(frozen=True, slots=True)
class Tile:
    """Run the frames from `start`, keep `[keep_from, keep_to)` of them; all counted from the song's start."""

    start: int
    keep_from: int
    keep_to: int


@dataclass(frozen=True, slots=True)
class Rung:
    """Tiles of `tile` latent frames, halos included, at a level of `LEVELS`."""

    level: int
    tile: int

    def __str__(self) -> str:
        return f"tiles of {self.tile} frames {LEVELS[self.level]}"


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of `run`: tiles finished, the rung it ended on, and each step down."""

    tiles: int
    rung: Rung
    fallbacks: tuple[Fallback, ...]


def next_tile(done: int, frames: int, tile: int, halo: int) -> Tile:
    """The tile that follows the first `done` of `frames` frames. A song no longer than a tile is one tile.

    Raises ValueError when `tile` leaves nothing inside its halos.
    """
    if frames <= tile:
        return Tile(0, done, frames)
    if tile <= 2 * halo:
        raise ValueError(
            f"tile: {tile} frames hold nothing between halos of {halo}; use at least {2 * halo + 1}"
        )
    start = min(max(done - halo, 0), frames - tile)
    end = start + tile
    return Tile(start, done, frames if end == frames else end - halo)


def rungs(level: int, tile: int, frames: int, device_type: str) -> list[Rung]:
    """`tile` frames and its halves down to 64, never more than the song's `frames` or Metal's 32."""
    tile = min(tile, frames, MPS_FRAMES if device_type == "mps" else tile)
    sizes = [tile]
    while sizes[-1] > MIN_FRAMES:
        sizes.append(max(sizes[-1] // 2, MIN_FRAMES))
    return [Rung(level, size) for size in sizes]


def run(
    stage: str,
    ladder: Sequence[Rung],
    items: int,
    frames: int,
    halo: int,
    work: Callable[[Rung, int, Tile], None],
) -> Run:
    """Call `work(rung, item, tile)` until every item's tiles cover its `frames`, each under a span `tile`.

    Starts on the first rung of `ladder`; after an out-of-memory the same stretch is tried again on the next.
    Whatever fails on the last rung, and any other error on any rung, is raised.
    """
    rung, *below = ladder
    fallbacks: list[Fallback] = []
    count = 0
    for item in range(items):
        done = 0
        while done < frames:
            tile = next_tile(done, frames, rung.tile, halo)
            with span("tile"):
                failure = attempt(partial(work, rung, item, tile), recoverable=bool(below))
            if failure is None:
                done = tile.keep_to
                count += 1
                continue
            reason = f"out of memory with {rung} ({failure.error}: {failure.message})"
            rung, *below = below
            fallbacks.append(Fallback(stage, reason, f"went on with {rung}"))
    return Run(count, rung, tuple(fallbacks))
