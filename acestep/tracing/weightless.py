"""Checkpoints whose tensors have shapes and no values: a DiT of 20 GB is opened as fast as a tiny one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from acestep.text.tokenizer import Tokenizer
from acestep.weights.checkpoint import Source
from acestep.weights.silence import SILENCE_FRAMES
from harness.checkpoint import Weights
from harness.trace.fake_card import FakeCard
from harness.trace.weightless import WeightlessWeights


class Weightless:
    """The source `held` for `card`: its configurations and tokenizers, and weights that take no memory."""

    def __init__(self, held: Source, card: FakeCard):
        self.held = held
        self.card = card
        self.name = held.name

    def config(self, folder: str) -> dict[str, Any]:
        return self.held.config(folder)

    def weights(self, folder: str) -> Weights:
        return WeightlessWeights(self.held.weights(folder), self.card)

    def tokenizer(self, folder: str) -> Tokenizer:
        return self.held.tokenizer(folder)

    def silence_latent(self, dit: str) -> Tensor:
        return self.card.elsewhere((1, SILENCE_FRAMES, 64))
