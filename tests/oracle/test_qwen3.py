"""Qwen3 against transformers': one forward over everything, and ours through the cache.

The oracle never caches here. A row of a session, whatever was written when and next to whom, must
give what one uncached forward over the row's own tokens gives.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracles import DTYPES, LIMITS, assert_close, assert_trips, load, precision, randomise, transformers_qwen3
from torch import Tensor

from acestep.lm.decode.kv_cache import KVState
from harness.nn import qwen3
from harness.nn.attend import full
from harness.nn.blocks import rope_table
from harness.nn.config import Qwen3Config
from harness.nn.qwen3 import Cache, Qwen3

CONFIG = Qwen3Config(
    model_type="qwen3",
    hidden_size=40,
    intermediate_size=56,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=12,
    num_hidden_layers=3,
    vocab_size=89,
)


class Pair:
    """Ours and theirs, with and without the tied head."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.ours = randomise(Qwen3(CONFIG))
        config = transformers_qwen3.Qwen3Config(
            vocab_size=CONFIG.vocab_size,
            hidden_size=CONFIG.hidden_size,
            intermediate_size=CONFIG.intermediate_size,
            num_hidden_layers=CONFIG.num_hidden_layers,
            num_attention_heads=CONFIG.num_attention_heads,
            num_key_value_heads=CONFIG.num_key_value_heads,
            head_dim=CONFIG.head_dim,
            rms_norm_eps=CONFIG.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": CONFIG.rope_theta},
            tie_word_embeddings=True,
        )
        with precision(dtype):
            self.theirs = load(transformers_qwen3.Qwen3Model(config), self.ours.state_dict(), dtype)
            lm = transformers_qwen3.Qwen3ForCausalLM(config)
            prefixed = {f"model.{name}": tensor for name, tensor in self.ours.state_dict().items()}
            self.their_lm = load(lm, prefixed | {"lm_head.weight": self.ours.embed_tokens.weight}, dtype)
        self.ours.to(dtype)

    def oracle(self, ids: Tensor) -> Tensor:
        with precision(self.dtype):
            return self.theirs(input_ids=ids).last_hidden_state

    def oracle_last(self, *rows: list[int]) -> Tensor:
        """The last hidden state of each row by itself: `[len(rows), H]`."""
        return torch.cat([self.oracle(torch.tensor([row]))[:, -1] for row in rows])


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CONFIG.vocab_size, (count,), generator=generator).tolist()


@DTYPES
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 2), (3, 17), (2, 64)])
def test_uncached(batch: int, length: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    ids = torch.tensor([tokens(length, seed) for seed in range(batch)])
    assert_close(pair.ours(ids), pair.oracle(ids), LIMITS[dtype], "Qwen3, uncached")


@DTYPES
def test_the_head_is_the_token_table(dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    ids = torch.tensor([tokens(9, 1), tokens(9, 2)])
    logits = F.linear(pair.ours(ids), pair.ours.embed_tokens.weight)
    with precision(dtype):
        theirs = pair.their_lm(input_ids=ids).logits
    assert_close(logits, theirs, LIMITS[dtype], "Qwen3, logits")


@DTYPES
@pytest.mark.parametrize("prompt", [1, 8])
def test_prefill_then_decode(prompt: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    rows = [tokens(prompt + 5, 1), tokens(prompt + 5, 2)]
    ids = torch.tensor(rows)
    cache, everyone = Cache(CONFIG, 2, prompt + 5, dtype, torch.device("cpu")), slice(0, 2)
    hidden = pair.ours.begin(ids[:, :prompt], cache, everyone)
    for end in range(prompt, prompt + 5):
        theirs = pair.oracle_last(*(row[:end] for row in rows))
        assert_close(hidden, theirs, LIMITS[dtype], "Qwen3, cached")
        step = torch.full((2, 1), end)
        hidden = pair.ours.extend(ids[:, end : end + 1], step, cache, everyone, end + 1)


def uneven(pair: Pair) -> tuple[Tensor, list[list[int]]]:
    """Rows of 3, 9, 5 and 3 tokens, then 5, 2, 0 and 5 forced ones, then one for all but the last row.

    Prompts share beginnings, or all of themselves. Returns the last states and each row's own tokens.
    """
    head = tokens(2, 0)
    prompts = [head + tokens(1, 1), head + tokens(7, 2), tokens(5, 3), head + tokens(1, 1)]
    session = KVState(pair.ours, prompts, 7, torch.device("cpu"))
    session.prefill()
    runs = [
        [tokens(count, 7 + row) for row, count in enumerate(counts)]
        for counts in ((5, 2, 0, 5), (1, 1, 1, 0))
    ]
    for run in runs:
        session.extend(run)
    return session.hidden, [list(chain(*parts)) for parts in zip(prompts, *runs, strict=True)]


@DTYPES
def test_rows_of_different_lengths(dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    hidden, rows = uneven(pair)
    assert_close(hidden, pair.oracle_last(*rows), LIMITS[dtype], "Qwen3, ragged rows")


@DTYPES
def test_a_later_session_on_known_prefixes(dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    first, other = tokens(6, 1), tokens(4, 2)
    session = KVState(pair.ours, [first, other], 0, torch.device("cpu"))
    session.prefill()
    rows = [first + tokens(3, 3), other + tokens(2, 4), first, first[:3]]
    later = KVState(pair.ours, rows, 0, torch.device("cpu"))
    later.prefill([session.prefix(0), session.prefix(1)])
    assert_close(later.hidden, pair.oracle_last(*rows), LIMITS[dtype], "Qwen3, ragged rows")
    assert later.prefill_tokens < session.prefill_tokens


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _positions(change: Callable[[Tensor, Cache], Tensor]) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        extend = pair.ours.extend

        def changed(ids: Tensor, at: Tensor, cache: Cache, *rest: Any) -> Tensor:
            return extend(ids, change(at, cache), cache, *rest)

        patch.setattr(pair.ours, "extend", changed)

    return damage


def _mask(change: Callable[[Tensor], Tensor]) -> Damage:
    attention = F.scaled_dot_product_attention

    def changed(*qkv: Tensor, attn_mask: Tensor | None = None, **rest: bool) -> Tensor:
        return attention(*qkv, attn_mask=None if attn_mask is None else change(attn_mask), **rest)

    return lambda pair, patch: patch.setattr(F, "scaled_dot_product_attention", changed)


def _one_less(bias: Tensor) -> Tensor:
    less = F.pad(bias[..., 1:], (0, 1), value=torch.finfo(bias.dtype).min)
    less[..., 0] = 0
    return less


def _swap_rope(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(qwen3, "rope_table", lambda *inputs: rope_table(*inputs)[::-1])


CACHED: dict[str, Damage] = {
    "padding kept in the row": _positions(lambda at, cache: at.where(at < cache.padding, 0)),
    "positions of the longest row": _positions(
        lambda at, _: at.max(dim=0, keepdim=True).values.expand_as(at)
    ),
    "everything seen": _mask(torch.zeros_like),
    "tokens see one ahead": _mask(lambda bias: F.pad(bias[..., :-1], (1, 0))),
    "tokens see one less": _mask(_one_less),
    "a prompt's beginning sees all of itself": lambda pair, patch: patch.setattr(qwen3, "causal", full),
    "cos and sin swapped": _swap_rope,
    "query norm weight dropped": lambda pair, patch: pair.ours.layers[0].self_attn.q_norm.weight.fill_(1),
    "final norm weight dropped": lambda pair, patch: pair.ours.norm.weight.fill_(1),
}


@pytest.mark.parametrize("control", CACHED)
def test_damage_to_the_cache_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    _, rows = uneven(pair)
    theirs = pair.oracle_last(*rows)
    CACHED[control](pair, monkeypatch)
    ours, _ = uneven(pair)
    monkeypatch.undo()
    assert_trips(ours, theirs, LIMITS[torch.float32], "Qwen3, ragged rows", control)


UNCACHED: dict[str, Damage] = {
    "not causal": lambda pair, patch: patch.setattr(qwen3, "causal", full),
    "cos and sin swapped": _swap_rope,
    "key norm weight dropped": lambda pair, patch: pair.ours.layers[2].self_attn.k_norm.weight.fill_(1),
}


@pytest.mark.parametrize("control", UNCACHED)
def test_damage_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    ids = torch.tensor([tokens(9, 1), tokens(9, 2)])
    theirs = pair.oracle(ids)
    UNCACHED[control](pair, monkeypatch)
    assert_trips(pair.ours(ids), theirs, LIMITS[torch.float32], "Qwen3, uncached", control)
