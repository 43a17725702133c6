"""The sampler's penalty, top-k and nucleus against transformers' logits processors."""

from __future__ import annotations

import pytest
import torch
from oracles import REASON
from torch import Tensor

from harness.nn import sampling as module
from harness.nn.sampling import Sampling

transformers = pytest.importorskip("transformers", reason=REASON)
VOCABULARY, HISTORY = 1000, 40


def inputs(seed: int) -> tuple[Tensor, Tensor]:
    """Logits of three rows, some of them zero, and the tokens before them."""
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(3, VOCABULARY, generator=generator)
    scores[:, :10] = 0
    return scores, torch.randint(0, VOCABULARY // 2, (3, HISTORY), generator=generator)


def ours(monkeypatch: pytest.MonkeyPatch, sampling: Sampling, scores: Tensor, tokens: Tensor) -> Tensor:
    """The probabilities that are drawn from."""
    drawn: list[Tensor] = []

    def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
        drawn.append(probabilities)
        return uniform.long()

    monkeypatch.setattr(module, "draw", draw)
    seen = torch.zeros(scores.shape, dtype=torch.bool).scatter_(1, tokens, True)
    sampling.pick(scores, torch.zeros(len(scores)), seen)
    return drawn[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.05, 1.2, 2.0])
def test_the_penalty_is_theirs_bit_for_bit(monkeypatch, penalty: float, seed: int):
    scores, tokens = inputs(seed)
    theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(tokens, scores)
    assert torch.equal(
        ours(monkeypatch, Sampling(1.0, repetition_penalty=penalty), scores, tokens), theirs.softmax(-1)
    )
    assert torch.equal(theirs, scores) == (penalty == 1.0)


@pytest.mark.parametrize("k", [1, 50, 200, VOCABULARY])
def test_top_k_is_theirs_bit_for_bit(monkeypatch, k: int):
    scores, tokens = inputs(0)
    theirs = transformers.TopKLogitsWarper(k)(tokens, scores)
    assert torch.equal(ours(monkeypatch, Sampling(1.0, top_k=k), scores, tokens), theirs.softmax(-1))


@pytest.mark.parametrize("mass", [0.5, 0.9, 0.95])
def test_the_nucleus_is_theirs_bit_for_bit(monkeypatch, mass: float):
    """Where no two are as likely: of those they leave some out."""
    scores, tokens = inputs(0)
    scores[:, :10] = torch.linspace(-0.1, 0.1, 10)
    theirs = transformers.TopPLogitsWarper(mass)(tokens, scores)
    assert torch.equal(ours(monkeypatch, Sampling(1.0, top_p=mass), scores, tokens), theirs.softmax(-1))


def test_all_of_them_in_turn_are_theirs(monkeypatch):
    """Penalty, top-k, nucleus, then temperature."""
    scores, tokens = inputs(1)
    theirs = scores
    for processor in (
        transformers.RepetitionPenaltyLogitsProcessor(1.2),
        transformers.TopKLogitsWarper(50),
        transformers.TopPLogitsWarper(0.9),
        transformers.TemperatureLogitsWarper(0.85),
    ):
        theirs = processor(tokens, theirs)
    probabilities = ours(monkeypatch, Sampling(0.85, 50, 0.9, 1.2), scores, tokens)
    assert torch.equal(probabilities, theirs.softmax(-1))
    warm_first = transformers.TopPLogitsWarper(0.9)(
        tokens, transformers.TopKLogitsWarper(50)(tokens, scores / 0.85)
    )
    assert not torch.equal(probabilities > 0, warm_first.softmax(-1) > 0)  # the order matters
