"""A tile as a graph: compiled in a stage of its own, recorded where that pays, and that it may be."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from recorders import CPURecorder
from tiny_vae import HOP, one_pass, random_latents, relative_error
from torch import Tensor
from two_steps import check_two_steps

from acestep.audio import decode as decode_module
from acestep.audio.decode import Decoded, decode, prepare
from acestep.audio.tile import LAUNCH_BOUND_FRAMES, STAGE, Tiles
from acestep.audio.tile_size import VAE_CHUNK
from acestep.models.vae import OobleckDecoder
from harness.captured import Buffered, Captured
from harness.cards import find
from harness.compiling import Compiled
from harness.device import VIRTUAL
from harness.graphs import Graphs
from harness.memory import GIB
from harness.spans import record, span
from harness.tiling import Rung
from harness.trace.fake_card import FakeCard

PLENTY = SimpleNamespace(free_bytes=lambda: 64 * GIB)


def decode_prepared(tiles: Tiles, latents: Tensor, tile: int) -> tuple[Decoded, list[str]]:
    """Decoded after `prepare`, and the stages that were recorded."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(), tiles.captured, record() as spans:
        patch.setenv(VAE_CHUNK, str(tile))
        prepare(tiles, latents, HOP, PLENTY)
        with span("vae_decode"):
            done = decode(tiles.decoder, latents, HOP, PLENTY, tiles)
    return done, [stage for stage in spans.stages() if stage != "other"]


@pytest.fixture
def compiled(
    decoder: OobleckDecoder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[torch.fx.GraphModule]]:
    """The decoder compiles, by a backend that runs graphs as they are and keeps them here."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield graphs
    decoder._compiled_call_impl = None
    torch.compiler.reset()


def compiling(decoder: OobleckDecoder) -> Tiles:
    compiled = Compiled()
    compiled.layers([decoder])
    return Tiles(decoder, compiled)


def test_a_compiled_tile_is_one_graph_in_a_stage_of_its_own(decoder: OobleckDecoder, compiled: list):
    songs = (random_latents(1, 28), random_latents(1, 30))
    whole = [one_pass(decoder, latents) for latents in songs]
    tiles, stages = compiling(decoder), []
    for latents, expected in zip(songs, whole, strict=True):
        done, of_song = decode_prepared(tiles, latents, 24)
        stages.append(of_song)
        assert done.fallbacks == () and relative_error(done.audio, expected) < 1e-9
    assert stages == [["compile", "vae_decode"], ["vae_decode"]] and len(compiled) == 1


def test_a_smaller_tile_than_was_compiled_runs_eager_and_is_told(
    decoder: OobleckDecoder, compiled: list, monkeypatch: pytest.MonkeyPatch
):
    latents = random_latents(1, 70)
    whole, tiles, run = one_pass(decoder, latents), compiling(decoder), Tiles.__call__

    def short(tiles: Tiles, window: Tensor) -> Tensor:
        if window.shape[-1] > 64:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(tiles, window)

    monkeypatch.setattr(Tiles, "__call__", short)
    done, stages = decode_prepared(tiles, latents, 66)
    assert stages == ["compile", "vae_decode"] and len(compiled) == 1
    assert (done.tile_frames, done.level) == (64, 1)
    assert str(done.fallbacks[-1]) == "vae_decode: no tile of 64 frames on cpu was compiled; decoded eager"
    assert relative_error(done.audio, whole) < 1e-9


def test_level_3_runs_nothing_compiled(decoder: OobleckDecoder, compiled: list, monkeypatch):
    monkeypatch.setattr(decode_module, "_ladder", lambda *_: ([Rung(3, 20)], ()))
    latents = random_latents(1, 20)
    whole = one_pass(decoder, latents)
    done, stages = decode_prepared(compiling(decoder), latents, 64)
    assert stages == ["vae_decode"] and compiled == []
    assert len(done.fallbacks) == 1 and relative_error(done.audio, whole) < 1e-5


def test_no_memory_to_compile_in_is_a_tile_that_runs_eager(
    decoder: OobleckDecoder, compiled: list, monkeypatch
):
    latents = random_latents(1, 20)
    whole, refusal = one_pass(decoder, latents), torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(Compiled, "warm", Mock(side_effect=refusal))
    done, _ = decode_prepared(compiling(decoder), latents, 64)
    assert compiled == [] and relative_error(done.audio, whole) < 1e-9
    assert [str(fallback) for fallback in done.fallbacks] == [
        "vae_decode: not compiled: device memory ran out; decoded eager"
    ]


@pytest.mark.parametrize(("tile", "replays"), [(LAUNCH_BOUND_FRAMES, [2]), (LAUNCH_BOUND_FRAMES + 1, [])])
def test_tiles_that_are_bound_by_launches_are_recorded(
    decoder: OobleckDecoder, tile: int, replays: list[int], monkeypatch: pytest.MonkeyPatch
):
    latents, recorder = random_latents(1, 30), CPURecorder()
    done, stages = decode_prepared(
        Tiles(decoder, captured=Captured(STAGE, Graphs(recorder), set())), latents, tile
    )
    assert recorder.replays == replays and recorder.alive == 0
    assert stages == (["compile", "vae_decode"] if replays else ["vae_decode"])
    assert relative_error(done.audio, one_pass(decoder, latents)) < 1e-9


def recorded_tile(decoder: OobleckDecoder) -> Buffered:
    """What is recorded of a tile on a card."""
    window = torch.zeros(1, 64, 20, dtype=torch.float64, device=VIRTUAL)
    piece = torch.zeros(1, 2, 20 * HOP, dtype=torch.float64, device=VIRTUAL)
    return Buffered(Tiles(copy.deepcopy(decoder).to(VIRTUAL)), piece, window)


def test_a_tile_may_be_recorded(decoder: OobleckDecoder):
    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        events = check_two_steps(card, recorded_tile(decoder))
        assert sum("convolution" in str(event[0]) for event in events) > 2


# What a tile does beside, and what is said of it.
PLANTED: dict[str, tuple[Callable[[Tensor, list[Tensor]], object], str]] = {
    "a value read back": (lambda latents, _: latents.sum().item(), "host and card meet"),
    "a shape that grows": (lambda latents, kept: latents[:, : len(kept)].sum(), "in the first step"),
    "an allocation that stays": (lambda latents, kept: kept.append(latents * 2), "stay allocated"),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_tile_that_may_not_is_seen(fault: str, decoder: OobleckDecoder, monkeypatch: pytest.MonkeyPatch):
    (plant, message), forward, kept = PLANTED[fault], OobleckDecoder.forward, []

    def planted(decoder: OobleckDecoder, latents: Tensor) -> Tensor:
        plant(latents, kept)
        if "grows" in fault:
            kept.append(latents)
        return forward(decoder, latents)

    monkeypatch.setattr(OobleckDecoder, "forward", planted)
    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        with pytest.raises(AssertionError, match=message):
            check_two_steps(card, recorded_tile(decoder))
        kept.clear()
