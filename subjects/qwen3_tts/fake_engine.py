"""The engine for a trace: weights without values on a card without memory."""

from __future__ import annotations

from harness.device import VIRTUAL
from harness.memory import MemoryBudget
from harness.nn.blocks import Block
from harness.trace.fake_card import FakeCard
from harness.trace.weightless import WeightlessWeights
from subjects.qwen3_tts.engine import Engine
from subjects.qwen3_tts.setup import Setup
from subjects.qwen3_tts.weights import Source, open_source

REPEATED = (Block,)


class Weightless:
    """The source `held` for `card`: its names and shapes, and weights that take no memory."""

    def __init__(self, held: Source, card: FakeCard):
        self.name = held.name
        self._held = held
        self._card = card

    def model(self) -> WeightlessWeights:
        return WeightlessWeights(self._held.model(), self._card)

    def codec(self) -> WeightlessWeights:
        return WeightlessWeights(self._held.codec(), self._card)


def load(setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
    """The engine of `setup` on `card`, whose memory is `budget`."""
    source = Weightless(open_source(setup.source, setup.model), card)
    return Engine.from_setup(setup, budget=budget, source=source, device=VIRTUAL)
