"""Qwen3-TTS's sampler: the nucleus looks at what temperature has made of the logits."""

from __future__ import annotations

import pytest
import torch

from harness.nn.sampling import Sampling
from subjects.qwen3_tts.sampling import GREEDY, PUBLISHED, Tempered

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0]])
DRAWS = torch.linspace(0, 1 - 2**-24, 200)


def drawn(sampling: Sampling) -> list[int]:
    return sampling.pick(LOGITS.expand(200, -1), DRAWS).unique().tolist()


@pytest.mark.parametrize(
    ("temperature", "mass", "kept"), [(4.0, 0.8, 3), (4.0, 0.6, 2), (1.0, 0.8, 1), (0.5, 0.99, 2)]
)
def test_the_nucleus_is_that_after_temperature(temperature: float, mass: float, kept: int):
    shares = (LOGITS[0].double() / temperature).softmax(-1)
    fewest = next(n for n in range(1, 5) if shares[:n].sum() >= mass)
    assert drawn(Tempered(temperature, top_p=mass)) == list(range(fewest))
    assert fewest == kept


def test_the_sampler_of_other_models_looks_before():
    assert drawn(Sampling(4.0, top_p=0.8)) == [0] != drawn(Tempered(4.0, top_p=0.8))


def test_without_a_nucleus_both_are_the_same_to_the_bit():
    ours, theirs = Tempered(0.9, top_k=3), Sampling(0.9, top_k=3)
    assert torch.equal(ours.pick(LOGITS.expand(200, -1), DRAWS), theirs.pick(LOGITS.expand(200, -1), DRAWS))


def test_defaults_are_the_published_ones():
    first, others = PUBLISHED.first, PUBLISHED.others
    assert (first.temperature, first.top_k, first.top_p, first.repetition_penalty) == (0.9, 50, 1.0, 1.05)
    assert (others.temperature, others.top_k, others.top_p, others.repetition_penalty) == (0.9, 50, 1.0, 1.0)
    assert PUBLISHED.min_new_tokens == GREEDY.min_new_tokens == 2
    assert (GREEDY.first.temperature, GREEDY.first.repetition_penalty, GREEDY.others.temperature) == (
        0,
        1.05,
        0,
    )
