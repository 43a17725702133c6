"""What a format costs: the rate at which a card multiplies it, and the islands that are wider than it."""

from __future__ import annotations

import pytest
import torch
from allocations import TINY, cost, setup, song

from acestep.text.prompts import encoder_ids, lyric_prompt
from acestep.weights.layout import TEXT_ENCODER
from acestep.weights.sources import open_source
from harness import cards
from harness.cards import Card
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA
from harness.trace.stage_costs import PS, Matmul, StageCosts, Work

T4, A100 = cards.find("t4"), cards.find("a100-40gb")
EDGE = 4096
FLOP = 2 * EDGE**3


def product(card: Card, dtype: torch.dtype) -> tuple[Work, float]:
    """Work of a square product on a card, and seconds it takes."""
    with FakeCard(card, libraries=CUDA(card.capability)) as fake, torch.inference_mode():
        left, right = (torch.empty(EDGE, EDGE, dtype=dtype, device="virtual") for _ in range(2))
        torch.mm(left, right)
        stage = fake.tracker.stage_costs.stages["other"]
    return stage.total(), float(stage.bound_ps("compute")) / PS


@pytest.mark.parametrize(
    ("card", "dtype", "tflop_per_s"),
    [
        (T4, torch.bfloat16, 8.1),
        (T4, torch.float16, 65),
        (T4, torch.float32, 8.1),
        (A100, torch.bfloat16, 312),
        (A100, torch.float16, 312),
        (A100, torch.float32, 19.5),
    ],
)
def test_a_product_takes_its_time_at_the_rate_of_its_format(card, dtype, tflop_per_s):
    work, seconds = product(card, dtype)
    assert seconds == pytest.approx(FLOP / (tflop_per_s * 1e12), rel=1e-9)
    assert (work.flop, work.fp32_flop) == (FLOP, FLOP if tflop_per_s < 20 else 0)


def test_a_kernel_of_both_takes_the_sum_of_both():
    costs = StageCosts(A100)
    costs.charge(Matmul(flop=3 * FLOP, fp32_flop=FLOP))
    took_s = float(costs.stages["other"].bound_ps("compute")) / PS
    assert took_s == pytest.approx(2 * FLOP / 312e12 + FLOP / 19.5e12, rel=1e-9)


def test_attention_in_fp32_is_at_the_rate_of_fp32():
    with FakeCard(A100, libraries=CUDA(A100.capability)) as fake, torch.inference_mode():
        for dtype in (torch.float16, torch.float32):
            q = torch.empty(1, 4, 256, 64, dtype=dtype, device="virtual")
            torch.nn.functional.scaled_dot_product_attention(q, q, q)
        work = fake.tracker.stage_costs.stages["other"].total()
    assert work.fp32_flop == work.flop // 2 == 4 * 4 * 256 * 256 * 64


def test_an_island_counts_by_its_bytes_and_at_its_rate():
    """Of the lyric encoder of synthetic-tiny: a projection `[192, 576]` and a norm, 2 bytes more each."""
    half, narrow = (cost(setup(dtype=dtype)) for dtype in ("bf16", "fp16"))
    islands = "encoder.lyric_encoder.layers.1.mlp.down_proj, encoder.lyric_encoder.norm"
    assert (half.environment["dtype"], half.environment["islands"]) == ("bfloat16", None)
    assert (narrow.environment["dtype"], narrow.environment["islands"]) == ("float16", islands)
    sent = [sum(stage.work.to_card_bytes for stage in each.stages) for each in (half, narrow)]
    assert sent[1] - sent[0] == 2 * (192 * 576 + 192)
    flop = {stage.stage: stage.work.fp32_flop for stage in narrow.stages if stage.work.fp32_flop}
    params = song()
    tokenizer = open_source(TINY).tokenizer(TEXT_ENCODER)
    tokens = len(encoder_ids(tokenizer, lyric_prompt(params.vocal_language, params.lyrics), 2048))
    assert flop == {"condition": 2 * 192 * 576 * tokens}
    assert not any(stage.work.fp32_flop for stage in half.stages)
