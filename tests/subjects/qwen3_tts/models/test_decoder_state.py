"""Streaming with state: equal to one pass for any chunks, for the work of one pass; what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_decoder12hz import PUBLISHED, TINY, random_codes, tiny_decoder
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from two_steps import check_two_steps

from harness.captured import Buffered
from harness.cards import find
from harness.checkpoint import on_meta
from harness.device import VIRTUAL
from harness.parity import compare
from harness.trace.fake_card import FakeCard
from subjects.qwen3_tts.models.causal import CausalConv
from subjects.qwen3_tts.models.decoder import Decoder
from subjects.qwen3_tts.models.decoder_state import DecoderState

LIMIT = 1e-9  # of the relative RMS, in fp64
FRAMES = 20
decoder = cache(tiny_decoder)


def streamed(state: DecoderState, codes: Tensor, chunks: Sequence[int]) -> Tensor:
    return torch.cat([state.step(part) for part in codes.split(list(chunks), dim=-1)], dim=-1)


def error(codes: Tensor, chunks: Sequence[int], prepare: Callable[[DecoderState], object] = id) -> float:
    """How far a stream in `chunks` is from one pass."""
    state = DecoderState(decoder(), len(codes))
    prepare(state)
    return compare(decoder()(codes), streamed(state, codes, chunks)).relative_rms


@settings(max_examples=settings.default.max_examples // 5, deadline=None)
@given(st.lists(st.integers(1, 11), min_size=1, max_size=6), st.integers(1, 3))
def test_any_chunks_are_one_pass(chunks: list[int], batch: int) -> None:
    assert error(random_codes(sum(chunks), batch), chunks) < LIMIT


@pytest.mark.parametrize("chunk", [1, 4, 10])
def test_chunks_of_one_size_are_one_pass(chunk: int) -> None:
    assert error(random_codes(FRAMES), [chunk] * (FRAMES // chunk)) < LIMIT


def shorten_the_window(state: DecoderState) -> None:
    state.keys, state.values = state.keys[:, :, :, 1:], state.values[:, :, :, 1:]


def shorten_a_tail(at: int) -> Callable[[DecoderState], None]:
    """Of one convolution the oldest column is not kept."""

    def shorten(state: DecoderState) -> None:
        joined, short = state.joined, list(state.tails)[at]

        def without(layer: CausalConv, x: Tensor) -> Tensor:
            if layer is short:
                state.tails[layer][..., 0] = 0
            return joined(layer, x)

        state.joined = without  # pyright: ignore[reportAttributeAccessIssue]

    return shorten


def stand_still(state: DecoderState) -> None:
    """Every step is at the first positions."""
    state.step = lambda codes: decoder()(codes, state)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("damage", [shorten_the_window, stand_still])
def test_a_damaged_state_is_noticed(damage: Callable[[DecoderState], None], chunk: int) -> None:
    assert error(random_codes(FRAMES), [chunk] * (FRAMES // chunk), damage) > 1e-5


@pytest.mark.parametrize("tail", range(len(DecoderState(decoder(), 1).tails)))
def test_a_tail_one_column_short_is_noticed(tail: int) -> None:
    assert error(random_codes(FRAMES), [4] * (FRAMES // 4), shorten_a_tail(tail)) > 1e-5


def test_a_state_starts_anew_in_its_buffers() -> None:
    state, codes = DecoderState(decoder(), 1), random_codes(9)
    first = streamed(state, codes, [4, 5])
    state.reset()
    assert torch.equal(streamed(state, codes, [4, 5]), first)


def test_what_is_kept_of_an_item() -> None:
    state = DecoderState(on_meta(lambda: Decoder(PUBLISHED)), batch=3)
    kept = state.keys.numel() + state.values.numel(), sum(tail.numel() for tail in state.tails.values())
    assert kept == (3 * 1_163_264, 3 * 135_232)
    assert sum(buffer.numel() for buffer in state.buffers) == 3 * 1_298_496


def test_a_step_may_be_recorded() -> None:
    codes = random_codes(3, 2)
    with FakeCard(find("rtx4090")) as card, torch.inference_mode():
        model = tiny_decoder().to(VIRTUAL)
        state = DecoderState(model, 2)
        samples = torch.empty(2, 3 * TINY.hop, dtype=torch.float64, device=VIRTUAL)
        check_two_steps(card, Buffered(state.step, samples, codes.to(VIRTUAL)))


def flop(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@torch.inference_mode()
def test_a_stream_costs_what_one_pass_does() -> None:
    """Counted at the published shapes: 4 frames in one pass, with state, and behind 25 frames of context."""
    model = on_meta(lambda: Decoder(PUBLISHED))
    codes = torch.empty(1, 16, 100, dtype=torch.int64, device="meta")
    state = DecoderState(model, 1)
    one_pass = flop(lambda: model(codes)) / 25
    with_state = flop(lambda: state.step(codes[..., :4]))
    recomputed = flop(lambda: model.chunked(codes[..., :29], 25, 25)) - flop(lambda: model(codes[..., :25]))
    assert 0.99 < with_state / one_pass < 1.01
    assert 7.2 < recomputed / one_pass < 7.4
