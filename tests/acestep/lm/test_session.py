"""Cached decoding against the whole text run again, in fp64: sharing, lengths, prefixes change nothing."""

import random

import pytest
import torch
import torch.nn.functional as F
from tiny_lm import CPU, tiny_planner

from acestep.lm.decode.kv_cache import KVState
from harness.nn.qwen3 import few_rows

MODEL = tiny_planner().backend.model
HEAD = [11, 22, 33, 44]
LONG = [*HEAD, 5, 6, 7, 8, 9]
SHORT = [*HEAD, 77]


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def opened(prompts: list[list[int]], new_tokens: int, known=()) -> KVState:
    session = KVState(MODEL, prompts, new_tokens, CPU)
    session.prefill(known)
    return session


def afresh(ids: list[int]) -> torch.Tensor:
    return MODEL(torch.tensor([ids]))[0, -1]


def check(session: KVState, texts: list[list[int]]) -> None:
    for hidden, text in zip(session.hidden, texts, strict=True):
        assert torch.allclose(hidden, afresh(text), rtol=1e-10, atol=1e-10)


def test_rows_of_unequal_prompts_and_runs_match_the_uncached_model():
    texts = [LONG, LONG, SHORT, [3]]
    session = opened(texts, 10)
    check(session, texts)
    for runs in ([[100, 101], [], [102], []], [[], [], [1, 2, 3, 4], []], [[8], [9], [10], [11, 12]]):
        session.extend(runs)
        texts = [text + run for text, run in zip(texts, runs, strict=True)]
        check(session, texts)
    for new, tokens in enumerate(([7, 8, 9, 10], [11, 12, 13, 14]), 1):
        session.window(4, new).step(torch.tensor(tokens))
        texts = [[*text, token] for text, token in zip(texts, tokens, strict=True)]
    check(session, texts)


def test_the_check_sees_a_row_that_was_fed_its_padding():
    session = opened([LONG, SHORT], 4)
    session.cache.padding = 0  # where the first token of each row is
    session.extend([[1, 2], [3]])
    session.window(2, 1).step(torch.tensor([4, 5]))
    with pytest.raises(AssertionError):
        check(session, [[*LONG, 1, 2, 4], [*SHORT, 3, 5]])


@pytest.mark.parametrize("seed", range(5))
def test_any_texts_in_any_pieces(seed: int):
    rng = random.Random(seed)
    texts = [[rng.randrange(3) for _ in range(rng.randint(1, 6))] for _ in range(5)]
    first = opened(texts[:2], 0)
    session = opened(texts, 12, [first.prefix(0), first.prefix(1)])
    check(session, texts)
    for _ in range(3):
        runs = [[rng.randrange(100) for _ in range(rng.randint(0, 4))] for _ in texts]
        runs[0] = runs[0] or [1]
        session.extend(runs)
        texts = [text + run for text, run in zip(texts, runs, strict=True)]
    check(session, texts)


def test_the_first_rows_go_on_alone():
    session = opened([LONG, SHORT, HEAD], 2)
    session.window(2, 1).step(torch.tensor([1, 2]))
    session.window(1, 2).step(torch.tensor([3]))
    check(session, [[*LONG, 1, 3], [*SHORT, 2], HEAD])


def test_shared_tokens_are_prefilled_once():
    tails = [LONG, LONG, SHORT, SHORT, [*LONG, 10]]
    assert opened(tails, 0).prefill_tokens == len(HEAD) + len(LONG) - len(HEAD) + len(SHORT) - len(HEAD) + 1
    assert opened([LONG], 0).prefill_tokens == len(LONG)


def test_known_prefixes_are_not_run_again():
    first = opened([LONG, SHORT], 1)
    prompts = [[*LONG, 60, 61], [*SHORT, 62], [*LONG, 60, 61], LONG]
    second = opened(prompts, 1, [first.prefix(0), first.prefix(1)])
    check(second, prompts)
    # All but the new ends, and the last token of LONG, whose state is not kept.
    assert second.prefill_tokens == 2 + 1 + 1


def test_one_or_two_rows_are_multiplied_without_onednn(monkeypatch: pytest.MonkeyPatch):
    linear, seen = F.linear, set()

    def noted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        seen.add((x.shape[:-1].numel(), torch.backends.mkldnn.enabled))
        return linear(x, weight, bias)

    monkeypatch.setattr(F, "linear", noted)
    for rows in (1, 2, 3):
        session = opened([LONG] * rows, 1)
        window = session.window(rows, 1)
        window.step(torch.zeros(rows, dtype=torch.long))
        window.head(slice(4))
    assert seen == {(len(LONG), True), (1, False), (2, False), (3, True)}


def test_onednn_is_as_it_was_after_a_few_rows(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KeyError), few_rows(1):
        raise KeyError
    assert torch.backends.mkldnn.enabled
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    with few_rows(3):
        assert not torch.backends.mkldnn.enabled
    assert not torch.backends.mkldnn.enabled
