"""Audio tokenizer, FSQ and detokenizer against diffusers'; the codebook over all 64,000 indices."""

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
)
from torch import Tensor, nn

from acestep.models import codes as codes_module
from acestep.models import condition
from acestep.models.codes import FSQ, AudioTokenizer, Detokenizer
from acestep.models.configs import DiTConfig
from harness.nn.blocks import rope_table

LEVELS = [8, 8, 8, 5, 5, 5]
CODES = 64_000
CONFIG = DiTConfig(
    model_type="acestep",
    hidden_size=32,
    intermediate_size=40,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    num_hidden_layers=1,
    layer_types=["sliding_attention"],
    sliding_window=128,
    audio_acoustic_hidden_dim=6,
    fsq_dim=32,
    fsq_input_levels=LEVELS,
)


class Pair:
    """Tokenizer and detokenizer, ours and theirs."""

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype
        self.tokenizer = randomise(AudioTokenizer(CONFIG), seed=1)
        self.detokenizer = randomise(Detokenizer(CONFIG), seed=2)
        # Spread over the whole grid: at the default scale most coordinates land on its middle.
        self.tokenizer.quantizer.project_in.weight.mul_(1.5)
        shared = {
            "hidden_size": CONFIG.hidden_size,
            "intermediate_size": CONFIG.intermediate_size,
            "audio_acoustic_hidden_dim": CONFIG.audio_acoustic_hidden_dim,
            "num_attention_heads": CONFIG.num_attention_heads,
            "num_key_value_heads": CONFIG.num_key_value_heads,
            "head_dim": CONFIG.head_dim,
            "sliding_window": CONFIG.sliding_window,
        }
        with precision(dtype):
            tokenizer = diffusers_encoders.AceStepAudioTokenizer(
                fsq_dim=CONFIG.fsq_dim, fsq_input_levels=LEVELS, **shared
            )
            detokenizer = diffusers_encoders.AceStepAudioTokenDetokenizer(**shared)
        self.their_tokenizer = load(tokenizer, to_diffusers(self.tokenizer.state_dict()), dtype)
        self.their_detokenizer = load(detokenizer, to_diffusers(self.detokenizer.state_dict()), dtype)
        self.tokenizer.to(dtype)
        self.detokenizer.to(dtype)

    def latents(self, batch: int, codes: int) -> Tensor:
        return random_tensor(batch, 5 * codes, CONFIG.audio_acoustic_hidden_dim, seed=7, dtype=self.dtype)

    def oracle_tokens(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Quantized features and indices."""
        with precision(self.dtype):
            features, indices = self.their_tokenizer.tokenize(latents)
        return features, indices[..., 0]

    def oracle_latents(self, features: Tensor) -> Tensor:
        with precision(self.dtype):
            return self.their_detokenizer(features)


@DTYPES
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (3, 7), (2, 40)])
def test_tokenizer(batch: int, count: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    latents = pair.latents(batch, count)
    theirs, their_indices = pair.oracle_tokens(latents)
    indices = pair.tokenizer(latents)
    assert torch.equal(indices, their_indices)
    features = pair.tokenizer.quantizer.decode(indices)
    assert_close(features, theirs, LIMITS[dtype], "audio tokenizer")


def test_the_tokenizer_test_visits_the_whole_grid() -> None:
    pair = Pair(torch.float64)
    indices = pair.tokenizer(pair.latents(2, 100)).flatten()
    basis = torch.tensor([1, 8, 64, 512, 2560, 12800])
    for axis, levels in enumerate(LEVELS):
        digits = indices // basis[axis] % levels
        assert len(digits.unique()) == levels


@DTYPES
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (3, 7)])
def test_detokenizer(batch: int, count: int, dtype: torch.dtype) -> None:
    pair = Pair(dtype)
    features = random_tensor(batch, count, CONFIG.hidden_size, seed=8, dtype=dtype)
    assert_close(pair.detokenizer(features), pair.oracle_latents(features), LIMITS[dtype], "detokenizer")


def quantizers(dtype: torch.dtype) -> tuple[FSQ, diffusers_encoders._AceStepResidualFSQ]:
    ours = randomise(FSQ(16, LEVELS))
    with precision(dtype):
        theirs = load(diffusers_encoders._AceStepResidualFSQ(16, LEVELS, 1), ours.state_dict(), dtype)
    return ours.to(dtype), theirs


@DTYPES
def test_every_index_decodes_alike(dtype: torch.dtype) -> None:
    ours, theirs = quantizers(dtype)
    indices = torch.arange(CODES)
    with precision(dtype):
        expected = theirs.get_output_from_indices(indices[:, None])[:, 0]
    assert_close(ours.decode(indices), expected, LIMITS[dtype], "FSQ, 64,000 codes")


@DTYPES
def test_every_index_is_found_again(dtype: torch.dtype) -> None:
    """With identity projections and the soft clamp undone, each grid point gives its own index."""
    ours, theirs = FSQ(6, LEVELS).to(dtype), diffusers_encoders._AceStepResidualFSQ(6, LEVELS, 1).to(dtype)
    for linear in (ours.project_in, ours.project_out, theirs.project_in, theirs.project_out):
        nn.init.eye_(linear.weight)
        nn.init.zeros_(linear.bias)
    indices = torch.arange(CODES)
    stretch = 1 + 1 / (torch.tensor(LEVELS, dtype=dtype) - 1)
    features = (ours.decode(indices) / stretch).atanh() * stretch
    with precision(dtype):
        _, quantized = theirs(features)
    assert torch.equal(ours.indices(features), indices)
    assert torch.equal(quantized[:, 0], indices)


def test_bfloat16_rounds_the_grid_once() -> None:
    """The published 2B codebook was cast to bf16 as a table: -0.71484, -0.42773, -0.14258, ..."""
    ours = FSQ(6, LEVELS)
    nn.init.eye_(ours.project_out.weight)
    nn.init.zeros_(ours.project_out.bias)
    grid = ours.to(torch.bfloat16).decode(torch.arange(8))[:, 0]
    exact = torch.tensor([2 * k / 7 - 1 for k in range(8)], dtype=torch.float64)
    assert torch.equal(grid, exact.to(torch.bfloat16))
    twice = torch.arange(8, dtype=torch.bfloat16) * 2 / 7 - 1
    assert not torch.equal(grid, twice)


Damage = Callable[[Pair, pytest.MonkeyPatch], None]


def _decode_as(digits_to_code: Callable[[Tensor, Tensor], Tensor]) -> Damage:
    """Another meaning of a level."""

    def damage(pair: Pair, patch: pytest.MonkeyPatch) -> None:
        fsq = pair.tokenizer.quantizer
        levels = torch.tensor(LEVELS)
        basis = torch.tensor([1, 8, 64, 512, 2560, 12800])

        def decode(indices: Tensor) -> Tensor:
            digits = indices[..., None] // basis % levels
            return fsq.project_out(digits_to_code(digits.to(pair.dtype), levels.to(pair.dtype)))

        patch.setattr(fsq, "decode", decode)

    return damage


def _reverse_basis(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    basis = pair.tokenizer.quantizer._basis
    patch.setattr(pair.tokenizer.quantizer, "_basis", lambda device: basis(device).flip(0))


def _pool_last(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    pooler = pair.tokenizer.attention_pooler
    run = pooler.run
    patch.setattr(pooler, "run", lambda x, valid=None: run(x, valid).flip(1))


def _swap_rope(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    for module in (codes_module, condition):
        patch.setattr(module, "rope_table", lambda *inputs: rope_table(*inputs)[::-1])


def _no_positions(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    for module in (codes_module, condition):
        patch.setattr(module, "rope_table", lambda positions, *rest: rope_table(0 * positions, *rest))


def _tanh_only(pair: Pair, patch: pytest.MonkeyPatch) -> None:
    """No soft clamp: the outermost levels become unreachable for large values, others shift."""
    fsq = pair.tokenizer.quantizer
    levels = torch.tensor(LEVELS, dtype=pair.dtype)

    def indices(x: Tensor) -> Tensor:
        digits = ((levels - 1) * (fsq.project_in(x).tanh() + 1) / 2 + 0.5).floor().long()
        return (digits * fsq._basis(x.device)).sum(-1)

    patch.setattr(fsq, "indices", indices)


CONTROLS: dict[str, Damage] = {
    "k/4 - 1 for 2k/(L-1) - 1": _decode_as(lambda k, levels: k / 4 - 1),
    "2k/L - 1 for 2k/(L-1) - 1": _decode_as(lambda k, levels: 2 * k / levels - 1),
    "digits in the other order": _reverse_basis,
    "no soft clamp": _tanh_only,
    "input bias dropped": lambda pair, patch: pair.tokenizer.audio_acoustic_proj.bias.zero_(),
    "special token dropped": lambda pair, patch: pair.tokenizer.attention_pooler.special_token.zero_(),
    "pooled at the last frame": _pool_last,
    "cos and sin swapped": _swap_rope,
    "no positions": _no_positions,
}


@pytest.mark.parametrize("control", CONTROLS)
def test_damage_to_the_tokenizer_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    latents = pair.latents(3, 7)
    theirs, _ = pair.oracle_tokens(latents)
    CONTROLS[control](pair, monkeypatch)
    ours = pair.tokenizer.quantizer.decode(pair.tokenizer(latents) % CODES)
    assert_trips(ours, theirs, LIMITS[torch.float32], "audio tokenizer", control)


DETOKENIZER_CONTROLS: dict[str, Damage] = {
    "output bias dropped": lambda pair, patch: pair.detokenizer.proj_out.bias.zero_(),
    "special tokens off by one": lambda pair, patch: pair.detokenizer.special_tokens.copy_(
        pair.detokenizer.special_tokens.roll(1, 1)
    ),
    "final norm dropped": lambda pair, patch: setattr(pair.detokenizer, "norm", nn.Identity()),
    "cos and sin swapped": _swap_rope,
    "no positions": _no_positions,
}


@pytest.mark.parametrize("control", DETOKENIZER_CONTROLS)
def test_damage_to_the_detokenizer_is_noticed(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(torch.float64)
    features = random_tensor(3, 7, CONFIG.hidden_size, seed=8, dtype=pair.dtype)
    theirs = pair.oracle_latents(features)
    DETOKENIZER_CONTROLS[control](pair, monkeypatch)
    assert_trips(pair.detokenizer(features), theirs, LIMITS[torch.float32], "detokenizer", control)
