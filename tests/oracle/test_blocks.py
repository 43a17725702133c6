"""The shared block against diffusers' encoder layer, and its parts against transformers'.

The parts are held bit for bit, in every dtype a checkpoint may run at: nothing later can be closer
than a norm or an angle.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from oracles import (
    DTYPES,
    LIMITS,
    assert_close,
    assert_trips,
    diffusers_encoders,
    load,
    precision,
    random_tensor,
    randomise,
    to_diffusers,
    transformers_qwen3,
)
from torch import Tensor

from harness.nn import blocks
from harness.nn.attend import Attend, Band, full, sliding
from harness.nn.blocks import Block, RMSNorm, Rope, rope_table, rotate
from harness.nn.config import BlockConfig

CONFIG = BlockConfig(
    hidden_size=24, intermediate_size=40, num_attention_heads=6, num_key_value_heads=2, head_dim=8
)
PUBLISHED = BlockConfig(
    hidden_size=256, intermediate_size=512, num_attention_heads=2, num_key_value_heads=1, head_dim=128
)
STORED = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@STORED
def test_norm_is_the_oracles_bit_for_bit(dtype: torch.dtype) -> None:
    ours = randomise(RMSNorm(40, 1e-6)).to(dtype)
    theirs = load(transformers_qwen3.Qwen3RMSNorm(40, 1e-6), ours.state_dict(), dtype)
    x = random_tensor(3, 7, 40, dtype=dtype)
    assert torch.equal(ours(x), theirs(x))
    ours.eps = 1e-4
    assert not torch.equal(ours(x), theirs(x))


@STORED
def test_angles_are_the_oracles_bit_for_bit(dtype: torch.dtype) -> None:
    """As far as ten minutes of audio reach: 7,500 tokens of the DiT."""
    positions = torch.arange(7500)
    rotary = transformers_qwen3.Qwen3RotaryEmbedding(
        transformers_qwen3.Qwen3Config(
            head_dim=128, rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}
        )
    )
    ours = rope_table(positions, PUBLISHED, dtype)
    qwen = rotary(torch.empty(0, dtype=dtype), positions[None])
    diffusers = diffusers_encoders._ace_step_rotary_freqs(7500, 128, 1_000_000.0, positions.device, dtype)
    for mine, theirs, others in zip(ours, qwen, diffusers, strict=True):
        assert torch.equal(mine, theirs[0])
        assert torch.equal(mine, others)


@STORED
def test_rotation_is_the_oracles_bit_for_bit(dtype: torch.dtype) -> None:
    q, k = random_tensor(2, 2, 9, 128, dtype=dtype), random_tensor(2, 1, 9, 128, seed=1, dtype=dtype)
    cos, sin = rope_table(torch.arange(9), PUBLISHED, dtype)
    for ours, theirs in zip(
        (q, k), transformers_qwen3.apply_rotary_pos_emb(q, k, cos[None], sin[None]), strict=True
    ):
        assert torch.equal(rotate(ours, (cos, sin)), theirs)


class Pair:
    """One block, ours and theirs."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.ours = randomise(Block(CONFIG))
        with precision(dtype):
            theirs = diffusers_encoders.AceStepEncoderLayer(
                hidden_size=CONFIG.hidden_size,
                num_attention_heads=CONFIG.num_attention_heads,
                num_key_value_heads=CONFIG.num_key_value_heads,
                head_dim=CONFIG.head_dim,
                intermediate_size=CONFIG.intermediate_size,
            )
        self.theirs = load(theirs, to_diffusers(self.ours.state_dict()), dtype)
        self.ours.to(dtype)

    def input(self, length: int, batch: int = 2) -> Tensor:
        return random_tensor(batch, length, CONFIG.hidden_size, seed=length, dtype=self.dtype)

    def oracle(self, x: Tensor, window: int | None) -> Tensor:
        length = x.shape[1]
        with precision(self.dtype):
            rope = diffusers_encoders._ace_step_rotary_freqs(
                length, CONFIG.head_dim, CONFIG.rope_theta, x.device, x.dtype
            )
            mask = diffusers_encoders._create_4d_mask(
                length, x.dtype, x.device, sliding_window=window, is_sliding_window=True, is_causal=False
            )
            return self.theirs(x, rope, None if window is None else mask)

    def block(self, x: Tensor, window: int | None) -> Tensor:
        batch, length, _ = x.shape
        attend = full if window is None else sliding(batch, length, window, x.dtype, x.device)
        return self.ours(x, blocks.rope_table(torch.arange(length), CONFIG, x.dtype), attend)


@DTYPES
@pytest.mark.parametrize("window", [None, 1, 2, 3, 8])
def test_every_length_agrees(window: int | None, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    for length in range(1, 3 * (window or 4) + 4):
        x = pair.input(length)
        assert_close(pair.block(x, window), pair.oracle(x, window), LIMITS[dtype], "block")


def test_the_band_starts_where_the_window_stops_holding_everything() -> None:
    bounds = {length: sliding(1, length, 4, torch.float32, torch.device("cpu")) for length in (4, 5, 6)}
    assert [isinstance(attend, Band) for attend in bounds.values()] == [False, False, True]


def test_a_band_never_holds_a_square() -> None:
    band = Band(1, 1000, 8, torch.float32, torch.device("cpu"))
    assert band.bias.shape == (125, 1, 8, 24)


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _replace_rope(change: Callable[[Rope], Rope]) -> Damage:
    return lambda pair, patch: patch.setattr(blocks, "rope_table", lambda *a: change(rope_table(*a)))


def _interleave(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    def neighbours(x: Tensor, rope: Rope) -> Tensor:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
        return x * rope[0] + turned * rope[1]

    patch.setattr(blocks, "rotate", neighbours)


def _regroup_heads(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    order = torch.tensor([0, 3, 1, 4, 2, 5])  # key head = head % 2 where head // 3 is meant
    attention, heads = pair.ours.self_attn, (CONFIG.num_attention_heads, CONFIG.head_dim)
    attention.q_proj.weight.copy_(attention.q_proj.weight.unflatten(0, heads)[order].flatten(0, 1))
    attention.o_proj.weight.copy_(attention.o_proj.weight.unflatten(1, heads)[:, order].flatten(1))


def _swap_gate_and_up(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    mlp = pair.ours.mlp
    mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj


def _sliding(by: int) -> Damage:
    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        def attend(batch: int, length: int, window: int, *where) -> Attend:
            return Band(batch, length, window + by, *where)

        patch.setitem(globals(), "sliding", attend)

    return damage


CONTROLS: dict[str, Damage] = {
    "cos and sin swapped": _replace_rope(lambda rope: rope[::-1]),
    "rotated the other way": _replace_rope(lambda rope: (rope[0], -rope[1])),
    "neighbours rotated for halves": _interleave,
    "heads grouped by remainder": _regroup_heads,
    "query norm weight dropped": lambda pair, patch: pair.ours.self_attn.q_norm.weight.fill_(1),
    "norm epsilon a thousandfold": lambda pair, patch: setattr(pair.ours.input_layernorm, "eps", 1e-3),
    "gate and up swapped": _swap_gate_and_up,
    "window one short": _sliding(-1),
    "window one long": _sliding(+1),
    "no window": lambda pair, patch: patch.setitem(globals(), "sliding", lambda *where: full),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    x = pair.input(11)
    theirs = pair.oracle(x, 3)
    CONTROLS[control](pair, monkeypatch)
    assert_trips(pair.block(x, 3), theirs, LIMITS[torch.float32], "block", control)


@pytest.mark.parametrize("length", [5, 6])
def test_a_late_band_is_noticed(length: int) -> None:
    """One token past window + 1 the plain attention no longer is the band; up to there it is."""
    pair = Pair(torch.float64)
    x = pair.input(length)
    theirs, plain = pair.oracle(x, 4), pair.block(x, None)
    if length <= 5:
        assert_close(plain, theirs, LIMITS[torch.float64], "block")
    else:
        assert_trips(plain, theirs, LIMITS[torch.float32], "block", "band one token late")
