"""Tiles partition a song; a run that is short of memory goes down the rungs and keeps what it has."""

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.spans import record
from harness.tiling import Rung, Tile, next_tile, run, rungs


@given(frames=st.integers(1, 3000), tile=st.integers(19, 600), done=st.integers(0, 2999))
def test_kept_stretches_partition_what_is_left(frames: int, tile: int, done: int):
    done %= frames
    while done < frames:
        now = next_tile(done, frames, tile, halo=9)
        end = min(now.start + tile, frames)
        assert now.keep_from == done < now.keep_to <= frames
        assert now.start == 0 or done - now.start >= 9
        assert end == frames or end - now.keep_to >= 9
        assert now.start == 0 or now.start + tile <= frames
        done = now.keep_to


def test_a_tile_of_nothing_but_halo_is_refused():
    with pytest.raises(ValueError, match="at least 19"):
        next_tile(0, 100, 18, halo=9)
    assert next_tile(0, 18, 18, halo=9) == Tile(0, 0, 18)


@pytest.mark.parametrize(
    ("tile", "frames", "device", "sizes"),
    [
        (512, 6000, "cuda", [512, 256, 128, 64]),
        (256, 6000, "cpu", [256, 128, 64]),
        (512, 250, "cuda", [250, 125, 64]),
        (100, 6000, "cuda", [100, 64]),
        (40, 6000, "cuda", [40]),
        (512, 20, "cuda", [20]),
        (512, 6000, "mps", [32]),
    ],
)
def test_tiles_are_halved_down_to_64_and_never_longer_than_the_song(tile, frames, device, sizes):
    assert rungs(2, tile, frames, device) == [Rung(2, size) for size in sizes]


LADDER = [Rung(1, 64), Rung(1, 32), Rung(2, 32)]


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.\nGPU 0 has")


def test_a_run_goes_down_the_rungs_and_repeats_nothing():
    seen: list[tuple[Rung, int, Tile]] = []

    def work(rung: Rung, item: int, tile: Tile) -> None:
        if (item, rung.tile) == (0, 64) and tile.keep_from > 0:
            out_of_memory()
        if item == 1 and rung.level == 1:
            out_of_memory()
        seen.append((rung, item, tile))

    with record() as times:
        done = run("vae_decode", LADDER, 2, 100, 4, work)
    kept = {item: [(t.keep_from, t.keep_to) for _, i, t in seen if i == item] for item in (0, 1)}
    assert kept[0] == [(0, 60), (60, 84), (84, 100)]
    assert kept[1] == [(0, 28), (28, 52), (52, 76), (76, 100)]
    assert [rung for rung, _, _ in seen] == [LADDER[0], *[LADDER[1]] * 2, *[LADDER[2]] * 4]
    assert (done.tiles, done.rung) == (7, LADDER[2])
    why = ": 1.5 GiB more were asked for"
    assert [str(fallback) for fallback in done.fallbacks] == [
        f"vae_decode: out of memory with tiles of 64 frames on the device{why}; "
        "went on with tiles of 32 frames on the device",
        f"vae_decode: out of memory with tiles of 32 frames on the device{why}; "
        "went on with tiles of 32 frames on the device, audio on the host",
    ]
    assert len(times.samples("tile")) == 9  # failed attempts cost time, too


def test_the_last_rung_and_other_errors_raise():
    with pytest.raises(torch.OutOfMemoryError):
        run("stage", LADDER, 1, 100, 4, lambda *_: out_of_memory())

    def broken(rung: Rung, item: int, tile: Tile) -> None:
        seen.append(rung)
        raise RuntimeError("shapes cannot be multiplied")

    seen: list[Rung] = []
    with pytest.raises(RuntimeError, match="multiplied"):
        run("stage", LADDER, 1, 100, 4, broken)
    assert seen == LADDER[:1]


def test_nothing_of_a_failed_tile_is_alive_when_it_is_tried_again():
    watched: list[weakref.ref] = []
    alive: list[bool] = []

    def work(rung: Rung, item: int, tile: Tile) -> None:
        alive.extend(reference() is not None for reference in watched)
        activation = torch.zeros(8)
        watched.append(weakref.ref(activation))
        if rung != LADDER[-1]:
            out_of_memory()

    run("stage", LADDER, 1, 32, 4, work)
    assert len(watched) == 3
    assert alive == [False] * 3
