"""The engine for a trace: weights without values on a card without memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.device import VIRTUAL
from harness.memory import MemoryBudget
from harness.trace.fake_card import FakeCard
from harness.trace.weightless import WeightlessWeights
from subjects.rvc.engine import Engine
from subjects.rvc.models import hubert, rmvpe
from subjects.rvc.models.generator import ResidualBlock
from subjects.rvc.setup import Setup
from subjects.rvc.weights import Source, open_source

REPEATED = (rmvpe.Block, hubert.Layer, ResidualBlock)


class Weightless:
    """The source `held` for `card`: its names and shapes, and weights that take no memory."""

    def __init__(self, held: Source, card: FakeCard):
        self._held = held
        self._card = card

    def weights(self, network: str) -> WeightlessWeights:
        return WeightlessWeights(self._held.weights(network), self._card)


def load(setup: Setup, card: FakeCard, budget: MemoryBudget) -> Engine:
    """The engine of `setup` on `card`, whose memory is `budget`. What it computes is 0, and no voice."""
    source = Weightless(open_source(setup), card)
    return Engine.from_setup(setup, budget=budget, source=source, device=VIRTUAL, host=_zeros)


def _zeros(values: Tensor) -> NDArray[Any]:
    return np.zeros(values.cpu().shape, np.float32)
