"""The closed forms against published figures, and against what PyTorch counts."""

from __future__ import annotations

from math import prod

import pytest

from acestep.profiler.cost import (
    Networks,
    block_weights,
    dit_condition_flop,
    dit_flop,
    dit_weights,
    lm_decode_bytes,
    lm_decode_flop,
    networks,
    qwen3_flop,
    qwen3_weights,
    vae_decode_flop,
    vae_decoder_weights,
)
from acestep.sources import LMS, TEXT_ENCODER

TERA, GIGA, MEGA = 1e12, 1e9, 1e6
CODES_HEAD, FULL_HEAD = 64_001, 217_204
BF16 = 2


def full(dit: str = "acestep-v15-turbo", lm: str = LMS[1]) -> Networks:
    return networks("synthetic-full", dit, lm, BF16)


def close(value: float) -> object:
    return pytest.approx(value, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "small", "xl"),
    [
        (10, 0.365, 1.01),
        (30, 1.11, 3.06),
        (60, 2.25, 6.20),
        (120, 4.61, 12.7),
        (180, 7.08, 19.5),
        (240, 9.66, 26.6),
        (600, 27.5, 75.3),
    ],
)
def test_a_pass_of_the_dit_costs_what_is_published(seconds, small, xl):
    tokens = int(12.5 * seconds)
    for dit, expected in (("acestep-v15-turbo", small), ("acestep-v15-xl-turbo", xl)):
        config = full(dit).dit
        assert config
        assert dit_flop(config, tokens, 400) / TERA == close(expected)


def test_parts_of_the_dit_cost_what_is_published():
    small, xl = full().dit, full("acestep-v15-xl-turbo").dit
    assert small
    assert xl
    assert 2 * dit_weights(small) / GIGA == close(2.818)
    assert 2 * dit_weights(xl) / GIGA == close(7.80)
    cross = dit_condition_flop(small, 0, 1) - 2 * 2048 * 2048  # without embedding the token
    assert cross / GIGA == close(0.2013)
    assert cross / 24 / MEGA == close(8.39)


def test_guidance_adds_a_twin_without_cross_attention():
    config = full().dit
    assert config
    alone, guided = dit_flop(config, 750, 400), dit_flop(config, 750, 400, guided=True)
    assert alone < guided < 2 * alone
    assert dit_flop(config, 750, 400, rows=3, guided=True) == 3 * guided
    assert dit_flop(config, 750, 800, guided=True) - guided == dit_flop(config, 750, 800) - alone


def test_decoding_audio_costs_what_is_published():
    vae = full().vae
    assert vae_decode_flop(vae, 1) / GIGA == close(4.874)
    assert vae_decode_flop(vae, 25) / GIGA == close(121.9)
    assert vae_decoder_weights(vae) == close(84_414_082)


@pytest.mark.parametrize(
    ("lm", "layers", "head", "few", "attention", "table", "weights", "cached"),
    [
        (LMS[0], 0.881, 0.445, 0.131, 0.229, 222_416_896, 662_884_352, 114_688),
        (LMS[1], 2.819, 0.890, 0.262, 0.229, 444_833_792, 1_854_243_840, 114_688),
        (LMS[2], 7.267, 1.112, 0.328, 0.590, 556_042_240, 4_189_554_176, 147_456),
    ],
)
def test_the_language_models_cost_what_is_published(lm, layers, head, few, attention, table, weights, cached):
    config = full(lm=lm).lm
    assert config
    assert 2 * qwen3_weights(config) / GIGA == close(layers)
    assert qwen3_weights(config) + table == pytest.approx(weights, rel=0.001)  # norms are not matrices
    bare = lm_decode_flop(config, 1, 0, 0)
    assert (lm_decode_flop(config, 1, 0, FULL_HEAD) - bare) / GIGA == close(head)
    assert (lm_decode_flop(config, 1, 0, CODES_HEAD) - bare) / GIGA == close(few)
    assert (lm_decode_flop(config, 1, 1, 0) - bare) / MEGA == close(attention)
    one, two = (lm_decode_bytes(config, 1, n, BF16, 0) for n in (1, 2))
    assert two - one == cached


def test_rows_share_the_weights_and_not_the_cache():
    config = full().lm
    assert config
    one, four = (lm_decode_bytes(config, rows, 1000, BF16, CODES_HEAD) for rows in (1, 4))
    assert four - one == 3 * 1000 * 114_688
    assert lm_decode_flop(config, 4, 1000, CODES_HEAD) == 4 * lm_decode_flop(config, 1, 1000, CODES_HEAD)


def test_the_encoders_are_made_of_the_same_block():
    text = networks("synthetic-full", None, TEXT_ENCODER, BF16).lm
    dit = full().dit
    assert text
    assert dit
    assert qwen3_flop(text, 1) / GIGA == close(0.88)
    assert (2 * 8 * block_weights(dit.encoder) + 2 * 1024 * 2048) / GIGA == close(0.81)  # lyrics, a token
    assert 750 * (2 * 4 * block_weights(dit.encoder) + 2 * 64 * 2048) / TERA == close(0.302)  # timbre


def test_a_prompt_costs_the_same_at_once_or_in_two_pieces():
    config = full().lm
    assert config
    assert qwen3_flop(config, 600) == qwen3_flop(config, 400) + qwen3_flop(config, 200, context=400)


def test_networks_of_a_folder_are_read_from_it(tmp_path):
    from acestep.errors import CheckpointError

    with pytest.raises(CheckpointError, match="vae"):
        networks(str(tmp_path), None, None, BF16)


def test_pytorch_counts_the_same():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from acestep.models.dit import DiT
    from acestep.models.vae import Oobleck

    def attention(q, k, *rest, **options):
        return 4 * prod(q) * k[-2]  # PyTorch knows no formula for the CPU's kernel

    def counter() -> FlopCounterMode:
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return FlopCounterMode(display=False, custom_mapping={kernel: attention})

    of = networks("synthetic-tiny", "acestep-v15-turbo", None, 4)
    assert of.dit
    frames, encoded = 125, 40  # short enough for the window to hold every key
    tokens = -(-frames // 2)
    with torch.inference_mode():
        dit, vae = DiT(of.dit), Oobleck(of.vae)
        width = of.dit.encoder.hidden_size
        x, context, given = (torch.randn(2, frames, n) for n in (64, 128, width))
        modulation = dit.modulate(torch.ones(1))
        with counter() as once:
            conditions = dit.condition(context[:1], given[:1, :encoded])
        assert once.get_total_flops() == dit_condition_flop(of.dit, tokens, encoded)
        conditions = dit.condition(context, given[:1, :encoded], torch.randn(1, 1, width))
        with counter() as plain:
            dit.velocity(x, conditions, modulation, 0)
        assert plain.get_total_flops() == dit_flop(of.dit, tokens, encoded, 2)
        with counter() as guided:
            dit.velocities(x, conditions, modulation, 0)
        assert guided.get_total_flops() == dit_flop(of.dit, tokens, encoded, 2, guided=True)
        with counter() as decoded:
            vae.decoder(torch.randn(1, 64, 25))
    assert decoded.get_total_flops() == pytest.approx(vae_decode_flop(of.vae, 25), rel=0.001)
