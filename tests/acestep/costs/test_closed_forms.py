"""The closed forms against published figures, and against what PyTorch counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from acestep.models.ace_step import AceStep
from acestep.models.condition import ConditionEncoder
from acestep.models.vae import Oobleck
from acestep.tracing.closed_form import (
    Networks,
    band_pairs,
    block_weights,
    condition_flop,
    detokenizer_flop,
    dit_condition_flop,
    dit_flop,
    dit_modulate_flop,
    dit_weights,
    lm_decode_bytes,
    lm_decode_flop,
    networks,
    qwen3_flop,
    qwen3_weights,
    timbre_flop,
    tokenizer_flop,
    vae_decode_flop,
    vae_decoder_weights,
    vae_encode_flop,
)
from acestep.weights.layout import LMS, SYNTHETIC, TEXT_ENCODER
from harness.nn.qwen3 import Cache, Qwen3

TERA, GIGA, MEGA = 1e12, 1e9, 1e6
CODES_HEAD, FULL_HEAD = 64_001, 217_204
LAYERS = 4
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
    from harness.errors import CheckpointError

    with pytest.raises(CheckpointError, match="vae"):
        networks(str(tmp_path), None, None, BF16)


@pytest.mark.parametrize("tokens", [1, 7, 8, 9, 10, 16, 23, 40])
def test_pairs_of_a_band_are_those_within_the_window(tokens):
    window = 8
    pairs = [(i, j) for i in range(tokens) for j in range(tokens)]
    assert band_pairs(tokens, window) == sum(abs(i - j) <= window for i, j in pairs)
    assert band_pairs(tokens, window, executed=True) >= band_pairs(tokens, window)


class Built(NamedTuple):
    """Every network of a source, without memory: on the meta device only shapes are computed."""

    of: Networks
    model: AceStep
    vae: Oobleck
    text: Qwen3


@pytest.fixture(
    scope="module", params=[(s, d) for s in SYNTHETIC for d in ("acestep-v15-turbo", "acestep-v15-xl-base")]
)
def built(request) -> Iterator[Built]:
    """Published ones have few of their layers: each of a kind is counted like the others."""
    source, dit = request.param
    of = networks(source, dit, TEXT_ENCODER, 4)
    assert of.dit
    assert of.lm
    if source == "synthetic-full":
        few = {"num_hidden_layers": LAYERS, "layer_types": of.dit.layer_types[:LAYERS]}
        of = dataclasses.replace(of, dit=replace(of.dit, **few), lm=replace(of.lm, num_hidden_layers=LAYERS))
    with torch.device("meta"), torch.inference_mode():
        yield Built(of, AceStep(of.dit), Oobleck(of.vae), Qwen3(of.lm))


def counted(work: Callable[[], object]) -> int:
    """What PyTorch counts, which knows nothing of our configurations."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), torch.device("meta"):
        work()
    return counter.get_total_flops()


def noise(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


# Where the window is 128: the last length within it, the first beyond, and one that fills no whole block.
LENGTHS = [129, 130, 300]


@pytest.mark.parametrize("tokens", LENGTHS)
def test_pytorch_counts_the_same_for_the_dit(built, tokens):
    config, dit = built.of.dit, built.model.decoder
    width, encoded, rows = config.encoder.hidden_size, 40, 2
    x, context = noise(rows, 2 * tokens - 1, 64), noise(rows, 2 * tokens - 1, 128)  # an odd end is padded
    given, null = noise(1, encoded, width), noise(1, 1, width)
    once = counted(lambda: dit.condition(context[:1], given))
    assert once == dit_condition_flop(config, tokens, encoded)
    once = counted(lambda: dit.condition(context[:1], given, null))
    assert once == dit_condition_flop(config, tokens, encoded, guided=True)
    assert counted(lambda: dit.modulate(noise(3))) == dit_modulate_flop(config, 3)
    with torch.inference_mode():
        modulation = dit.modulate(noise(3))
        plain, guided = dit.condition(context, given), dit.condition(context, given, null)
    step = counted(lambda: dit.velocity(x, plain, modulation, 0))
    assert step == dit_flop(config, tokens, encoded, rows, executed=True)
    step = counted(lambda: dit.velocities(x, guided, modulation, 0))
    assert step == dit_flop(config, tokens, encoded, rows, guided=True, executed=True)


@pytest.mark.parametrize("tokens", LENGTHS)
def test_pytorch_counts_the_same_for_the_condition_encoder(built, tokens):
    config, encoder = built.of.dit, built.model.encoder
    text, timbre = config.text_hidden_dim, noise(1, 1, config.encoder.hidden_size)
    prompt = counted(lambda: encoder(noise(1, 70, text), None, noise(1, tokens, text), None, timbre))
    assert prompt == condition_flop(config, 70, tokens, executed=True)
    # The control: what a band computes for nothing is in one form and not in the other.
    assert (prompt == condition_flop(config, 70, tokens)) == (tokens <= config.sliding_window + 1)


def test_of_an_odd_number_of_layers_one_more_slides():
    config = networks("synthetic-tiny", "acestep-v15-turbo", None, 4).dit
    assert config
    config = replace(config, num_lyric_encoder_hidden_layers=3)
    with torch.device("meta"), torch.inference_mode():
        encoder = ConditionEncoder(config).lyric_encoder
    lyrics = counted(lambda: encoder(noise(1, 300, config.text_hidden_dim)))
    assert lyrics == condition_flop(config, 0, 300, executed=True)


def test_pytorch_counts_the_same_for_timbre_and_codes(built):
    config, model = built.of.dit, built.model
    clips = counted(lambda: model.encoder.timbre_encoder(noise(2, 750, 64)))
    assert clips == timbre_flop(config, 2, executed=True) > timbre_flop(config, 2)
    assert counted(lambda: model.tokenizer(noise(1, 50, 64))) == tokenizer_flop(config, 10)
    codes = torch.zeros(1, 10, dtype=torch.long, device="meta")
    latents = counted(lambda: model.detokenizer(model.tokenizer.quantizer.decode(codes)))
    assert latents == detokenizer_flop(config, 10)


def test_pytorch_counts_the_same_for_qwen3(built):
    config, rows, tokens, context = built.of.lm, 2, 30, 70
    ids = torch.zeros(rows, tokens, dtype=torch.long, device="meta")
    assert counted(lambda: built.text(ids)) == rows * qwen3_flop(config, tokens, executed=True)
    cache = Cache(config, rows, 128, torch.float32, torch.device("meta"))

    def extended(ids: torch.Tensor) -> int:
        end = context + ids.shape[1]
        return counted(lambda: built.text.extend(ids, ids, cache, slice(0, rows), end))

    assert extended(ids) == rows * qwen3_flop(config, tokens, context, executed=True)
    assert extended(ids) > rows * qwen3_flop(config, tokens, context)
    assert extended(ids[:, :1]) == lm_decode_flop(config, rows, context, 0)


def test_pytorch_counts_the_same_for_the_vae(built):
    config, frames = built.of.vae, 25
    decoded = counted(lambda: built.vae.decoder(noise(1, 64, frames)))
    assert decoded == vae_decode_flop(config, frames)
    encoded = counted(lambda: built.vae.encoder(noise(1, 2, frames * config.hop)))
    assert encoded == vae_encode_flop(config, frames)
    assert decoded != encoded


def test_a_form_of_another_configuration_is_caught(built):
    config, model = built.of.dit, built.model
    codes = counted(lambda: model.tokenizer(noise(1, 50, 64)))
    for key in ("num_attention_pooler_hidden_layers", "head_dim", "pool_window_size", "fsq_dim"):
        other = replace(config, **{key: getattr(config, key) + 1})
        assert codes != tokenizer_flop(other, 10), key
