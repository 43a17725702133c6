"""Memory of a call as predicted is memory of the real call on the CPU, tensor by tensor.

What is real comes from PyTorch's own allocator, by way of its profiler. It also gives memory to kernels for
scratch, which a card has none of; so allocations are told apart by where operators' results lie.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from allocations import (
    CARD,
    LAYERS,
    Call,
    Memory,
    Profiled,
    Small,
    measured,
    predicted,
    profiled,
    small,
)
from torch import Tensor

from acestep.audio.decode import decode
from acestep.audio.tile_size import VAE_CHUNK
from acestep.lm.decode import kv_cache
from acestep.lm.decode.kv_cache import KVState
from harness.memory import GIB, MemoryBudget
from harness.nn.blocks import MLP
from harness.trace.fake_card import FakeCard

FRAMES = 301  # 151 tokens, more than the window of 128, and an odd end that is padded


def diffusion(nets: Small, guided: bool) -> Call:
    dit, width = nets.ace_step.decoder, nets.ace_step.config.encoder.hidden_size
    x, context, times = nets.zeros(2, FRAMES, 64), nets.zeros(2, FRAMES, 128), nets.zeros(3)
    encoded, null = nets.zeros(1, 40, width), nets.zeros(1, 1, width)

    def call() -> object:
        modulation = dit.modulate(times)
        conditions = dit.condition(context, encoded, null if guided else None)
        return (dit.velocities if guided else dit.velocity)(x, conditions, modulation, 0)

    return call


def text_encoder(nets: Small) -> Call:
    ids = nets.zeros(1, 50, dtype=torch.long)
    return lambda: nets.lm(ids)


def condition_encoder(nets: Small) -> Call:
    config, encoder = nets.ace_step.config, nets.ace_step.encoder
    text, lyrics = (nets.zeros(1, length, config.text_hidden_dim) for length in (70, 300))
    timbre = nets.zeros(1, 1, config.encoder.hidden_size)
    return lambda: encoder(text, None, lyrics, None, timbre)


def timbre_encoder(nets: Small) -> Call:
    clips = nets.zeros(2, 750, 64)
    return lambda: nets.ace_step.encoder.timbre_encoder(clips)


def tokenizer(nets: Small) -> Call:
    latents = nets.zeros(1, 50, 64)
    return lambda: nets.ace_step.tokenizer(latents)


def detokenizer(nets: Small) -> Call:
    codes, model = nets.zeros(1, 10, dtype=torch.long), nets.ace_step
    return lambda: model.detokenizer(model.tokenizer.quantizer.decode(codes))


def language_model(nets: Small) -> Call:
    """Prefill of two rows that begin alike, and two steps."""
    tokens, rows = nets.zeros(2, dtype=torch.long), slice(100, 200)

    def call() -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kv_cache, "block_of", lambda device: 16)  # here as there
            session = KVState(nets.lm, [[1, 2, 3, 4, 5], [1, 2, 9]], 8, nets.device)
        session.prefill()
        for new in (1, 2):
            window = session.window(2, new)
            window.head(rows)
            window.step(tokens)
        return session

    return call


def audio(nets: Small) -> Call:
    latents = nets.zeros(1, 64, 70)
    return lambda: nets.vae.decoder(latents)


def audio_in_tiles(nets: Small) -> Call:
    latents, hop = nets.zeros(1, 150, 64), nets.of.vae.hop
    budget = MemoryBudget("cpu", cap_bytes=64 * GIB)
    return lambda: decode(nets.vae.decoder, latents, hop, budget)


def latents(nets: Small) -> Call:
    wave = nets.zeros(1, 2, 10 * nets.of.vae.hop)
    return lambda: nets.vae.encode(wave)


CASES: dict[str, Callable[[Small], Call]] = {
    "dit": lambda nets: diffusion(nets, guided=False),
    "dit guided": lambda nets: diffusion(nets, guided=True),
    "text encoder": text_encoder,
    "condition encoder": condition_encoder,
    "timbre encoder": timbre_encoder,
    "tokenizer": tokenizer,
    "detokenizer": detokenizer,
    "language model": language_model,
    "vae decode": audio,
    "vae decode in tiles": audio_in_tiles,
    "vae encode": latents,
}
CONVOLUTIONS = ("vae decode", "vae decode in tiles", "vae encode")  # oneDNN reorders what it is given
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@cache
def real(dtype: torch.dtype) -> Small:
    return small(dtype)


@cache
def fake(dtype: torch.dtype) -> tuple[FakeCard, Small]:
    with FakeCard(CARD) as card:
        return card, small(dtype, "virtual")


def prediction(case: str, dtype: torch.dtype) -> Memory:
    card, nets = fake(dtype)
    with card:
        return predicted(card, CASES[case](nets)).memory


def measurement(case: str, dtype: torch.dtype) -> Profiled:
    return measured(CASES[case](real(dtype)))


@pytest.fixture(autouse=True)
def in_tiles(monkeypatch):
    monkeypatch.setenv(VAE_CHUNK, "64")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_call_takes_on_a_card_what_it_takes_here(case, dtype):
    there, here = prediction(case, dtype), measurement(case, dtype)
    assert there.peak_bytes == here.tensors.peak_bytes > 0
    assert there.changes == here.tensors.changes
    scratch = here.everything.peak_bytes - here.tensors.peak_bytes
    assert scratch >= 0
    if dtype == torch.float32 and case not in CONVOLUTIONS:
        assert scratch == 0  # so here nothing had to be told apart


@pytest.mark.parametrize("case", ["dit", "dit guided", "text encoder", "timbre encoder"])
def test_watching_changes_nothing(case):
    """With no mode at all, so with composites as PyTorch runs them, the allocator says the same."""
    events = profiled(CASES[case](real(torch.float32)))
    unwatched = Memory([event.size for event in events if not isinstance(event, int)])
    assert unwatched.peak_bytes == prediction(case, torch.float32).peak_bytes


def test_weights_are_counted_to_the_byte():
    for dtype in DTYPES.values():
        card, nets = fake(dtype)
        with card:
            alive = card.tracker.allocator.live_bytes
        assert alive == sum(p.nbytes for module in nets.modules() for p in module.parameters())
        assert alive == sum(p.nbytes for module in real(dtype).modules() for p in module.parameters())


def test_a_tensor_kept_too_long_is_heard(monkeypatch):
    """The control: MLPs whose results outlive them, at first in the real run alone, then in both."""
    kept: list[Tensor] = []
    forward = MLP.forward

    def keeping(self: MLP, x: Tensor) -> Tensor:
        kept.append(forward(self, x))
        return kept[-1]

    def freeing(nets: Small) -> Call:
        call = diffusion(nets, guided=False)
        return lambda: (call(), kept.clear())

    monkeypatch.setitem(CASES, "dit", freeing)
    before = prediction("dit", torch.float32)
    monkeypatch.setattr(MLP, "forward", keeping)
    here = measurement("dit", torch.float32).tensors
    result_bytes = 2 * -(-FRAMES // 2) * real(torch.float32).ace_step.config.hidden_size * 4
    last = slice(-1 - LAYERS, -1)  # freed before what the call returned
    assert here.changes[last] == [-result_bytes] * LAYERS != before.changes[last]
    assert here.changes == prediction("dit", torch.float32).changes != before.changes
