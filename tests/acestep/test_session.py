"""Cached decoding against running the whole text again, in fp64: sharing, gaps, prefixes change nothing."""

import pytest
import torch

from acestep.checkpoint import materialise, on_meta
from acestep.lm.session import Session
from acestep.models.configs import Qwen3Config, parse_config
from acestep.models.qwen3 import Qwen3
from acestep.sources import LMS
from acestep.synthetic import Synthetic

HEAD = [11, 22, 33, 44]
LONG = [*HEAD, 5, 6, 7, 8, 9]
SHORT = [*HEAD, 77]


@pytest.fixture(scope="module")
def model() -> Qwen3:
    source = Synthetic("synthetic-tiny")
    config = parse_config(source.config(LMS[0]), Qwen3Config, "tiny")
    model = on_meta(lambda: Qwen3(config))
    materialise(model, source.weights(LMS[0]).read, device=torch.device("cpu"), dtype=torch.float64)
    return model


def afresh(model: Qwen3, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([ids]))[0, -1]


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_rows_of_unequal_prompts_match_the_uncached_model(model: Qwen3):
    with torch.inference_mode():
        session = Session(model, [LONG, SHORT], copies=2, new_tokens=8)
        session.prefill()
        texts = [LONG, LONG, SHORT, SHORT]
        assert all(same(h, afresh(model, t)) for h, t in zip(session.hidden, texts, strict=True))
        session.append([100, 101])  # forced tokens: one pass
        texts = [[*t, 100, 101] for t in texts]
        for tokens in ([7, 8], [9, 10]):  # sampled tokens: one per item, both branches alike
            session.step(torch.tensor(tokens))
            texts = [[*t, tokens[i % 2]] for i, t in enumerate(texts)]
        assert all(same(h, afresh(model, t)) for h, t in zip(session.hidden, texts, strict=True))


def test_a_row_would_differ_if_it_saw_its_gap(model: Qwen3):
    with torch.inference_mode():
        session = Session(model, [LONG, SHORT], copies=1, new_tokens=2)
        session.prefill()
        session.cache.visible[:] = True
        session.step(torch.tensor([3]))
        assert same(session.hidden[0], afresh(model, [*LONG, 3]))
        assert not same(session.hidden[1], afresh(model, [*SHORT, 3]))


def test_a_later_session_starts_from_a_known_prefix(model: Qwen3):
    with torch.inference_mode():
        first = Session(model, [LONG], copies=1, new_tokens=1)
        first.prefill()
        second = Session(model, [[*LONG, 60, 61], [*LONG, 62]], copies=2, new_tokens=1)
        second.prefill(first.prefix())
        assert same(second.hidden[0], afresh(model, [*LONG, 60, 61]))
        assert same(second.hidden[3], afresh(model, [*LONG, 62]))
    # LONG keeps its last token to itself in `_common`, so all but one of its tokens are reused.
    assert second.prefill_tokens == 1 + 2 + 1


def test_shared_tokens_are_prefilled_once(model: Qwen3):
    with torch.inference_mode():
        session = Session(model, [LONG, SHORT], copies=4, new_tokens=1)
        session.prefill()
    assert session.prefill_tokens == len(HEAD) + (len(LONG) - len(HEAD)) + (len(SHORT) - len(HEAD))


def test_one_prompt_alone(model: Qwen3):
    with torch.inference_mode():
        session = Session(model, [LONG], copies=1, new_tokens=1)
        session.prefill()
        assert same(session.hidden[0], afresh(model, LONG))
