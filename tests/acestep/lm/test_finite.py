"""Logits that are no numbers, as after an overflow of fp16: one line, whatever would be drawn of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_lm import CPU, tiny_planner

from acestep.lm.backends.finite import NOT_FINITE
from acestep.lm.backends.vllm_decode import VLLMDecodeLoop
from acestep.lm.decode.kv_cache import Window
from acestep.lm.decode.selector import Guidance, TokenSelector
from acestep.lm.grammar.unconstrained import Unconstrained
from acestep.request import DescriptionParams
from acestep.text.tokenizer import LM_VOCAB
from harness.errors import BenchError
from harness.nn.qwen3 import Qwen3
from harness.nn.sampling import Sampling

PLANNER = tiny_planner()
DEFAULT = Sampling(0.85, top_p=0.9)
SAMPLINGS = {
    "greedy": Sampling(0.0),
    "whole distribution": Sampling(0.85),
    "nucleus": DEFAULT,
    "penalised, top k": replace(DEFAULT, top_k=50, repetition_penalty=1.3),
}
# On x86 a NaN that a sum of infinities makes has its sign set, on ARM it has not.
NUMBERS = {"NaN": torch.nan, "-NaN": -torch.nan, "infinity": torch.inf}


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def overflow(monkeypatch: pytest.MonkeyPatch):
    """The model's states are `number` from its pass `first` on."""

    def begin(number: float, first: int = 1) -> None:
        passes: list[torch.Tensor] = []

        def overflowing(read):
            def overflown(self, *args):
                passes.append(read(self, *args))
                return torch.full_like(passes[-1], number) if len(passes) >= first else passes[-1]

            return overflown

        for name in ("begin", "extend"):
            monkeypatch.setattr(Qwen3, name, overflowing(getattr(Qwen3, name)))

    return begin


def codes(sampling: Sampling, guidance: Guidance | None = None) -> list[torch.Tensor]:
    return PLANNER.backend.decode_loop(sampling, (1, 2)).codes([[1, 2], [1, 3]], [6, 4], guidance)


@pytest.mark.parametrize("first", [1, 5], ids=["of the prompts", "of a code"])
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_codes_of_states_that_are_no_numbers_are_a_failure(sampling: str, number: str, first: int, overflow):
    assert [len(row) for row in codes(SAMPLINGS[sampling])] == [6, 4]  # the control
    overflow(NUMBERS[number], first)
    with pytest.raises(BenchError, match=f"^{NOT_FINITE}$"):
        codes(SAMPLINGS[sampling])


def test_a_twin_that_overflows_is_one_too(overflow, monkeypatch: pytest.MonkeyPatch):
    """Only the unconditional rows are not finite, by which the others are guided."""
    step = Window.step

    def twins_overflow(self, tokens):
        step(self, tokens)
        self.state.hidden[1::2] = torch.nan

    monkeypatch.setattr(Window, "step", twins_overflow)
    with pytest.raises(BenchError, match=NOT_FINITE):
        codes(Sampling(0.0), Guidance(2.0, [1]))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_text_of_them_is_a_failure_where_no_grammar_notices(sampling: str, overflow):
    loop = PLANNER.backend.decode_loop(SAMPLINGS[sampling], [1])
    assert loop.texts([[1, 2]], [Unconstrained(3)])[0]
    overflow(torch.nan)
    loop = PLANNER.backend.decode_loop(SAMPLINGS[sampling], [1])
    with pytest.raises(BenchError, match=NOT_FINITE):
        loop.texts([[1, 2]], [Unconstrained(3)])


@pytest.mark.parametrize("top_p", [0.9, 1.0])
def test_a_description_of_them_is_told_in_the_same_words(top_p: float, overflow):
    """Drawn from the whole distribution, its grammar would refuse what was chosen."""
    overflow(torch.nan)
    with pytest.raises(BenchError, match=f"^{NOT_FINITE}$"):
        PLANNER.create(DescriptionParams(query="a sad song", top_p=top_p))


def test_another_failure_stays_what_it_is(monkeypatch: pytest.MonkeyPatch):
    def failing(self, tokens):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Window, "step", failing)
    with pytest.raises(RuntimeError, match="out of luck"):
        codes(DEFAULT)


class Steps:
    """An engine as vLLM's, whose logits are one number."""

    def __init__(self, number: float):
        self.number = number

    def read(self, prompts: list[list[int]]) -> list[Any]:
        return [SimpleNamespace(prompt_token_ids=prompt, num_cached_tokens=0) for prompt in prompts]

    def write(self, request, prompts: list[list[int]], most: list[int]) -> list[Any]:
        while request.items:
            request.next(torch.full((len(request.rows), LM_VOCAB), self.number))
        return []


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_what_vllm_computes_is_looked_at_as_well(sampling: str):
    def written(number: float) -> list[torch.Tensor]:
        loop = VLLMDecodeLoop(Steps(number), TokenSelector(SAMPLINGS[sampling], [1], CPU))
        return loop.codes([[1, 2]], [3], Guidance(2.0, [1]))

    assert len(written(0.0)[0]) == 3
    for number in (torch.nan, -torch.nan):
        with pytest.raises(BenchError, match=NOT_FINITE):
            written(number)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_item_that_overflows_and_ends_before_the_others_is_one_too(sampling: str):
    class SecondRow(Steps):
        def write(self, request, prompts: list[list[int]], most: list[int]) -> list[Any]:
            while request.items:
                logits = torch.zeros(len(request.rows), LM_VOCAB)
                logits[[row == 1 for row in request.rows]] = self.number
                request.next(logits)
            return []

    def written(number: float) -> list[torch.Tensor]:
        loop = VLLMDecodeLoop(SecondRow(number), TokenSelector(SAMPLINGS[sampling], [1, 2], CPU))
        return loop.codes([[1, 2], [1, 3]], [6, 4])

    assert [len(row) for row in written(0.0)] == [6, 4]
    with pytest.raises(BenchError, match=NOT_FINITE):
        written(torch.nan)
