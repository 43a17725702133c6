"""Tiled decoding of long audio: exact tiles, and smaller ones where memory runs out. No torch import here.

A network of convolutions computes each frame from a bounded stretch around it, its `halo`. A tile's
outer frames lack neighbours, so only what lies a halo inside is kept, except at the ends of the song;
with the network's own dependency cone as halo the pieces are what one pass would give. All tiles of
one size have one shape, the last too: it reaches back instead of being short.

A rung is a size of tile and a place to run it. When memory runs out `Progress` steps down a rung and goes
on from the last finished tile. Tiles run as far as somebody wants to go: all at once, or piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.adjustments import Fallback
from harness.oom import Failure, attempt
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
    """The outcome of a run: tiles finished, the rung it is on, and each step down."""

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


class Progress:
    """Tiles of a batch of songs, in whatever pieces they are wanted, down the rungs of `ladder`.

    `work(rung, item, tile)` computes one. After an out-of-memory the same stretch is tried again on the next
    rung, where all that follow stay.
    """

    def __init__(
        self, stage: str, ladder: Sequence[Rung], halo: int, work: Callable[[Rung, int, Tile], None]
    ):
        self._stage = stage
        self._rung, *self._below = ladder
        self._halo = halo
        self._work = work
        self._done: dict[int, int] = {}
        self._tiles = 0
        self._fallbacks: list[Fallback] = []

    def reach(self, item: int, until: int, frames: int) -> None:
        """Run tiles of `item` until the first `until` of its `frames` are done, each under a span `tile`.

        Whatever fails on the last rung, and any other error on any rung, is raised.
        """
        done = self._done.get(item, 0)
        while done < until:
            tile = next_tile(done, frames, self._rung.tile, self._halo)
            with span("tile"):
                failure = attempt(partial(self._work, self._rung, item, tile), recoverable=bool(self._below))
            if failure:
                self._step_down(failure)
                continue
            done = self._done[item] = tile.keep_to
            self._tiles += 1

    def _step_down(self, failure: Failure) -> None:
        reason = f"out of memory with {self._rung}: {failure.words}"
        self._rung, *self._below = self._below
        self._fallbacks.append(Fallback(self._stage, reason, f"went on with {self._rung}"))

    @property
    def run(self) -> Run:
        """What has run so far."""
        return Run(self._tiles, self._rung, tuple(self._fallbacks))


def run(
    stage: str,
    ladder: Sequence[Rung],
    items: int,
    frames: int,
    halo: int,
    work: Callable[[Rung, int, Tile], None],
) -> Run:
    """All `frames` of all `items`, item by item. Raises as `Progress.reach` does."""
    progress = Progress(stage, ladder, halo, work)
    for item in range(items):
        progress.reach(item, frames, frames)
    return progress.run
