"""Qwen3 against transformers': one forward over everything, and ours through the cache.

The oracle never caches here. A row of our cache, whatever was written when and next to whom, must
give what one uncached forward over the row's own tokens gives.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from oracles import DTYPES, LIMITS, assert_close, assert_trips, load, precision, randomise, transformers_qwen3
from torch import Tensor

from acestep.models import qwen3
from acestep.models.blocks import full, rope_table
from acestep.models.configs import Qwen3Config
from acestep.models.qwen3 import Cache, Qwen3

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

    def cache(self, rows: int, slots: int) -> Cache:
        return Cache(CONFIG, rows, slots, self.dtype, torch.device("cpu"))


def tokens(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(CONFIG.vocab_size, (count,), generator=generator).tolist()


def positions(*starts: int, count: int) -> Tensor:
    """Positions `[len(starts), count]`, counting up from each start."""
    return torch.tensor(starts)[:, None] + torch.arange(count)


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
    cache, everyone = pair.cache(2, prompt + 5), slice(0, 2)
    hidden = pair.ours.extend(ids[:, :prompt], positions(0, 0, count=prompt), cache, everyone, 0)
    for end in range(prompt, prompt + 5):
        theirs = pair.oracle_last(*(row[:end] for row in rows))
        assert_close(hidden, theirs, LIMITS[dtype], "Qwen3, cached")
        step = positions(end, end, count=1)
        hidden = pair.ours.extend(ids[:, end : end + 1], step, cache, everyone, end)


def uneven(pair: Pair) -> tuple[Tensor, list[list[int]]]:
    """Rows of 3, 9 and 5 tokens prefilled apart, then five forced and one decoded token for all.

    Rows 0 and 2 have a gap before the common part. Returns the last states and each row's own tokens.
    """
    prompts = [tokens(count, seed) for seed, count in enumerate((3, 9, 5))]
    forced, last = tokens(5, 7), [tokens(1, seed) for seed in (8, 9, 10)]
    cache = pair.cache(3, 20)
    for row, prompt in enumerate(prompts):
        ids, at = torch.tensor([prompt]), positions(0, count=len(prompt))
        pair.ours.extend(ids, at, cache, slice(row, row + 1), 0)
    at = positions(3, 9, 5, count=5)
    pair.ours.extend(torch.tensor([forced] * 3), at, cache, slice(0, 3), 9)
    hidden = pair.ours.extend(torch.tensor(last), at[:, -1:] + 1, cache, slice(0, 3), 14)
    return hidden, [prompt + forced + end for prompt, end in zip(prompts, last, strict=True)]


@DTYPES
def test_rows_with_gaps(dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    hidden, rows = uneven(pair)
    assert_close(hidden, pair.oracle_last(*rows), LIMITS[dtype], "Qwen3, cached with gaps")


@DTYPES
def test_a_hidden_slot_is_as_if_never_written(dtype: torch.dtype) -> None:
    """A row that ended is fed filler; hiding its slots takes the filler back."""
    pair = Pair(dtype)
    prompt, filler, rest = tokens(6, 1), tokens(2, 2), tokens(3, 3)
    cache, row = pair.cache(1, 11), slice(0, 1)
    pair.ours.extend(torch.tensor([prompt]), positions(0, count=6), cache, row, 0)
    pair.ours.extend(torch.tensor([filler]), positions(6, count=2), cache, row, 6)
    cache.visible[0, 6:8] = False
    hidden = pair.ours.extend(torch.tensor([rest]), positions(6, count=3), cache, row, 8)
    assert_close(hidden, pair.oracle_last(prompt + rest), LIMITS[dtype], "Qwen3, cached with gaps")


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _positions(change: Callable[[Tensor], Tensor]) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        extend = pair.ours.extend
        patch.setattr(pair.ours, "extend", lambda ids, at, *where: extend(ids, change(at), *where))

    return damage


def _see_gaps(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    extend = pair.ours.extend

    def everything(ids: Tensor, at: Tensor, cache: Cache, rows: slice, slot: int) -> Tensor:
        cache.visible[rows, :slot] = True
        return extend(ids, at, cache, rows, slot)

    patch.setattr(pair.ours, "extend", everything)


def _tril(by: int) -> Damage:
    tril = torch.Tensor.tril
    return lambda pair, patch: patch.setattr(torch.Tensor, "tril", lambda mask, slot: tril(mask, slot + by))


def _swap_rope(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(qwen3, "rope_table", lambda *inputs: rope_table(*inputs)[::-1])


CACHED: dict[str, Damage] = {
    "gaps seen": _see_gaps,
    "positions by slot": _positions(lambda at: at.max(dim=0, keepdim=True).values.expand_as(at)),
    "forced tokens see one ahead": _tril(+1),
    "forced tokens see one less": _tril(-1),
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
    assert_trips(ours, theirs, LIMITS[torch.float32], "Qwen3, cached with gaps", control)


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
