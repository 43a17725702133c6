"""What a card fuses, on one: its norm, its rotation and its band of attention, against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.nn.attend import FlashBand, causal, full, sliding
from harness.nn.blocks import RMSNorm, rotate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CARD = torch.device("cuda")
BATCH, HEADS, SHARED, SIZE = 2, 4, 2, 64
WINDOW = 128
LIMIT = 1e-2  # relative RMS in bf16; a window of one key less is off by more


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found.cpu().double() - expected).norm() / expected.norm())


def attended(q: Tensor, k: Tensor, v: Tensor, window: int, ahead: bool) -> Tensor:
    """By the formula in fp64: every key at distance <= window, or none of these that is ahead."""
    k, v = (heads.repeat_interleave(HEADS // SHARED, dim=1) for heads in (k, v))
    place = torch.arange(q.shape[2])
    distance = place[:, None] - place
    hidden = (distance > window) | (distance < (-window if ahead else 0))
    scores = (q @ k.mT / SIZE**0.5).masked_fill(hidden, -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("length", [WINDOW + 1, WINDOW + 2, 375])
def test_a_band_is_that_of_the_formula(length: int, ahead: bool):
    # As a layer has them: heads side by side in one memory, the values behind queries and keys.
    heads = drawn(BATCH, length, HEADS + 2 * SHARED, SIZE).bfloat16()
    on_card = heads.to(CARD).transpose(1, 2).split((HEADS, SHARED, SHARED), dim=1)
    exact = heads.double().transpose(1, 2).split((HEADS, SHARED, SHARED), dim=1)
    attend = sliding(BATCH, length, WINDOW, torch.bfloat16, CARD, ahead)
    found = attend(*on_card)
    assert found.shape == (BATCH, HEADS, length, SIZE)
    expected = attended(*exact, WINDOW, ahead)
    assert difference(found, expected) < LIMIT
    if torch.cuda.get_device_capability() >= (8, 0):
        assert isinstance(attend, FlashBand) == (length > WINDOW + 1)
    if attend not in (full, causal):
        narrow = sliding(BATCH, length, WINDOW - 1, torch.bfloat16, CARD, ahead)
        assert difference(narrow(*on_card), expected) > difference(found, expected)


def test_a_norm_and_a_rotation_are_those_of_the_formula():
    x, weight = drawn(3, 5, SIZE).bfloat16(), drawn(SIZE).bfloat16()
    norm = RMSNorm(SIZE, 1e-6).to(CARD, torch.bfloat16).requires_grad_(False)
    norm.weight.copy_(weight)
    expected = F.rms_norm(x.double(), (SIZE,), weight.double(), 1e-6)
    assert difference(norm(x.to(CARD)), expected) < LIMIT
    angle = drawn(5, SIZE // 2).repeat(1, 2)
    cos, sin = angle.cos().bfloat16(), angle.sin().bfloat16()
    x1, x2 = x.double().chunk(2, dim=-1)
    turned = x.double() * cos.double() + torch.cat((-x2, x1), dim=-1) * sin.double()
    assert difference(rotate(x.to(CARD), (cos.to(CARD), sin.to(CARD))), turned) < LIMIT
