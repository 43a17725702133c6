"""How condition tokens are packed: one sequence per item, what is valid first, nothing lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from acestep.models.condition import ConditionEncoder, pack
from acestep.models.configs import DiTConfig
from acestep.weights.synthetic_configs import CONFIGS
from harness.nn.config import parse_config

Part = tuple[Tensor, Tensor | None]


@st.composite
def batches(draw: st.DrawFn) -> list[Part]:
    """Up to four parts of one batch: tokens `[B, n, 1]` that are all different, and any mask or none."""
    batch = draw(st.integers(1, 3))
    parts: list[Part] = []
    for index in range(draw(st.integers(1, 4))):
        length = draw(st.integers(0, 5))
        tokens = 100.0 * index + torch.arange(batch * length).view(batch, length, 1)
        marks = draw(st.lists(st.booleans(), min_size=batch * length, max_size=batch * length))
        mask = torch.tensor(marks, dtype=torch.bool).view(batch, length)
        parts.append((tokens, mask if draw(st.booleans()) else None))
    return parts


@given(batches())
def test_packing_is_a_stable_partition(parts: list[Part]) -> None:
    """Against lists: in each row all valid tokens, then all others, both in the order of the parts."""
    packed, valid = pack(*parts)
    for row in range(len(packed)):
        tokens = [token for part, _ in parts for token in part[row, :, 0].tolist()]
        marks = [
            mark
            for part, mask in parts
            for mark in (mask[row].tolist() if mask is not None else [True] * part.shape[1])
        ]
        kept = [token for token, mark in zip(tokens, marks, strict=True) if mark]
        others = [token for token, mark in zip(tokens, marks, strict=True) if not mark]
        assert packed[row, :, 0].tolist() == kept + others
        assert valid[row].tolist() == [True] * len(kept) + [False] * len(others)


@pytest.fixture(scope="module")
def encoder() -> ConditionEncoder:
    config = parse_config(CONFIGS["synthetic-tiny"]["acestep-v15-xl-sft"], DiTConfig, "tiny")
    torch.manual_seed(0)
    return ConditionEncoder(config).requires_grad_(False)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_any_number_of_references(encoder: ConditionEncoder, count: int) -> None:
    """Lyrics, then one token per reference, then text; one row of references serves every item."""
    text, lyrics, timbre = torch.randn(2, 5, 64), torch.randn(2, 7, 64), torch.randn(1, count, 192)
    tokens, valid = encoder(text, None, lyrics, None, timbre)
    assert tokens.shape == (2, 7 + count + 5, 192) and bool(valid.all())
    assert torch.equal(tokens[:, 7 : 7 + count], timbre.expand(2, -1, -1))
    assert torch.equal(tokens[:, 7 + count :], encoder.text_projector(text))
    assert torch.equal(tokens[:, :7], encoder.lyric_encoder(lyrics))


def test_unequal_counts_of_references(encoder: ConditionEncoder) -> None:
    """An item with fewer references gets its text sooner, and padding at the end."""
    text, lyrics, timbre = torch.randn(2, 5, 64), torch.randn(2, 7, 64), torch.randn(2, 3, 192)
    timbre_valid = torch.tensor([[True, True, True], [True, False, False]])
    tokens, valid = encoder(text, None, lyrics, None, timbre, timbre_valid)
    assert valid.sum(1).tolist() == [15, 13]
    alone, _ = encoder(text[1:], None, lyrics[1:], None, timbre[1:, :1])
    torch.testing.assert_close(tokens[1:, :13], alone)
