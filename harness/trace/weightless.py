"""Weights that have shapes and no values: of 20 GB, a file is opened as fast as of a few."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from harness.checkpoint import Weights
from harness.tensor_files import Shape
from harness.trace.fake_card import FakeCard


class WeightlessWeights:
    """The tensors of `held`, without what they hold. On the host, whose memory is not counted, dtype is no
    matter: the engine casts as it reads, and of fp16 it need not ask whether another format has room for it.
    """

    def __init__(self, held: Weights, card: FakeCard):
        self.held = held
        self.card = card
        self.where = held.where

    def shapes(self) -> Mapping[str, Shape]:
        return self.held.shapes()

    def read(self, name: str) -> Tensor:
        return self.card.elsewhere(self.held.shapes()[name], torch.float16)
