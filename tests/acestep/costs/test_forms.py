"""FLOP of whole stages, as traced, are those of the closed forms that count what is executed: exactly."""

from __future__ import annotations

import pytest
import torch
from allocations import BASE, CARD, TINY, TURBO, XL, cost, predicted, setup, small, song
from msgspec.structs import replace

from acestep.lm.decode.loop import common_prefix
from acestep.models.configs import DiTConfig
from acestep.profiler import roofline
from acestep.request import GenerationConfig
from acestep.resolver import resolve
from acestep.result import Counts
from acestep.text.audio_codes import CODES
from acestep.text.prompts import phase1_prompt, phase2_unconditional
from acestep.tracing.closed_form import (
    Networks,
    condition_flop,
    detokenizer_flop,
    dit_condition_flop,
    dit_flop,
    dit_modulate_flop,
    lm_decode_flop,
    networks,
    qwen3_flop,
    timbre_flop,
    tokenizer_flop,
    vae_decode_flop,
    vae_encode_flop,
)
from acestep.weights.layout import LMS, TEXT_ENCODER
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer
from harness.nn.config import Qwen3Config
from harness.nn.qwen3 import BLOCK
from harness.trace.cost import Cost
from harness.trace.fake_card import FakeCard
from harness.trace.libraries import CUDA

SECONDS, STEPS = 30, 2
TOKENS = -(-25 * SECONDS // 2)
BF16 = 2


def of(dit: str = TURBO, lm: str = LMS[0]) -> Networks:
    return networks(TINY, dit, lm, BF16)


def dit_of(name: str) -> DiTConfig:
    config = of(name).dit
    assert config
    return config


def qwen3_of(name: str) -> Qwen3Config:
    config = of(lm=name).lm
    assert config
    return config


def flop(found: Cost, stage: str) -> int:
    (work,) = (one.work for one in found.stages if one.stage == stage)
    return work.flop


def caption_tokens(found: Cost) -> int:
    """How long the caption was, by what reading it cost."""
    text, counted = qwen3_of(TEXT_ENCODER), flop(found, "text_encode")
    (tokens,) = (n for n in range(1, 257) if qwen3_flop(text, n) == counted)
    return tokens


@pytest.fixture(
    scope="module", params=[(TURBO, False), (BASE, True), (XL, False)], ids=["2B", "guided", "XL"]
)
def made(request) -> tuple[Cost, DiTConfig, bool]:
    dit, guided = request.param
    return cost(setup(dit=dit), song(SECONDS, STEPS)), dit_of(dit), guided


def test_the_steps(made):
    found, config, guided = made
    encoded = found.counts["encoder_tokens"]

    def form(config: DiTConfig, executed: bool = False) -> int:
        return STEPS * dit_flop(config, TOKENS, encoded, guided=guided, executed=executed)

    assert flop(found, "diffuse") == form(config)
    assert flop(found, "diffuse") != form(config, executed=True)  # the control: flash runs no whole blocks
    for key in ("intermediate_size", "num_key_value_heads", "patch_size"):
        assert flop(found, "diffuse") != form(replace(config, **{key: getattr(config, key) + 1})), key


def test_what_the_steps_share(made):
    found, config, guided = made
    encoded, caption = found.counts["encoder_tokens"], caption_tokens(found)
    prompt = condition_flop(config, caption, encoded - 1 - caption, executed=True)  # one token is the timbre
    shared = dit_condition_flop(config, TOKENS, encoded, guided=guided)
    assert flop(found, "condition") == dit_modulate_flop(config, STEPS) + prompt + shared
    assert flop(found, "condition") != dit_modulate_flop(config, STEPS - 1) + prompt + shared


def test_loading_listens_to_silence(made):
    found, config, _ = made
    assert flop(found, "load") == timbre_flop(config)


def test_the_waveform(made):
    found, _, _ = made
    frames = found.counts["vae_tiles"] * found.counts["vae_tile_frames"]
    assert flop(found, "vae_decode") == vae_decode_flop(of().vae, frames)
    assert frames > 25 * SECONDS  # the control: halos are decoded twice


def in_blocks(context: int) -> int:
    """The context of a step that has `context` tokens before it, with what it reads in vain."""
    return -(-(context + 1) // BLOCK) * BLOCK - 1


@pytest.mark.parametrize(("dit", "guided"), [(TURBO, False), (BASE, True)], ids=["2B", "guided"])
def test_the_profilers_roofline_has_the_same_work_and_says_where_a_prediction_has_more(dit, guided):
    """The FLOP that are told before a run and after it: of one request, stage by stage."""
    made, request = setup(dit=dit, lm=True), song(SECONDS, STEPS, lm=True)
    found, plan = cost(made, request), resolve(request, GenerationConfig(batch_size=1), made)
    of = networks(TINY, dit, LMS[0], BF16)
    loads = {load.stage: load for load in roofline.of_plan(of, Counts(**found.counts), plan)}
    told = {stage: load.times * load.flop for stage, load in loads.items()}
    traced = {one.stage: one.work.flop for one in found.running if one.work.flop}
    assert list(told) == [stage for stage in traced if stage in told] and told.keys() == traced.keys()
    assert plan.guided == guided and told["diffuse"] == traced["diffuse"]
    # Less is needed than is computed: of hidden keys by causal attention, of a band by blocks, of halos.
    for stage in ("text_encode", "lm_prefill", "lm_decode", "condition", "vae_decode"):
        assert 0.4 * traced[stage] < told[stage] <= traced[stage], stage
    tiles = found.counts["vae_tiles"] * found.counts["vae_tile_frames"]
    assert told["vae_decode"] * tiles == traced["vae_decode"] * found.counts["latent_frames"]
    bare = dit_condition_flop(dit_of(dit), TOKENS, found.counts["encoder_tokens"], guided=guided)
    assert bare < 0.4 * traced["condition"]  # the control: without the lyric encoder


def test_the_language_model():
    found = cost(setup(lm=True), song(SECONDS, lm=True, lm_cfg_scale=1.0))
    config, prompt, codes = qwen3_of(LMS[0]), found.counts["lm_prompt_tokens"], 5 * SECONDS
    assert flop(found, "lm_prefill") == qwen3_flop(config, prompt)
    head = lm_decode_flop(config, 1, 0, CODES) - lm_decode_flop(config, 1, 0, 0)
    steps = sum(lm_decode_flop(config, 1, in_blocks(prompt + done), CODES) for done in range(codes - 1))
    assert flop(found, "lm_decode") == head + steps
    plain = cost(params=song(SECONDS))
    encoded, before = (one.counts["encoder_tokens"] for one in (found, plain))
    dit = dit_of(TURBO)
    other = (found, encoded), (plain, before)
    by_hand = [
        dit_condition_flop(dit, TOKENS, n)
        + condition_flop(dit, caption_tokens(one), n - 1 - caption_tokens(one), executed=True)
        for one, n in other
    ]
    detokenized = flop(found, "condition") - flop(plain, "condition") - (by_hand[0] - by_hand[1])
    assert detokenized == detokenizer_flop(dit, codes)


def test_guidance_of_codes_is_one_more_row_with_a_short_prompt():
    plain, guided = (cost(setup(lm=True), song(SECONDS, lm=True, lm_cfg_scale=scale)) for scale in (1.0, 2.0))
    config, codes = qwen3_of(LMS[0]), 5 * SECONDS
    encode = synthetic_tokenizer("lm").encode_prompt
    given, bare = encode(phase1_prompt("", "")), encode(phase2_unconditional())
    shared = common_prefix([given, bare])  # as far as the request's own words
    prompt, both = (found.counts["lm_prompt_tokens"] for found in (plain, guided))
    assert both - prompt == len(bare) < prompt
    rest = (qwen3_flop(config, n - shared, shared, executed=True) for n in (prompt, len(bare)))
    assert flop(guided, "lm_prefill") == qwen3_flop(config, shared) + sum(rest)
    head = lm_decode_flop(config, 2, 0, CODES) - lm_decode_flop(config, 2, 0, 0)
    steps = sum(lm_decode_flop(config, 2, in_blocks(prompt + done), CODES) for done in range(codes - 1))
    assert flop(guided, "lm_decode") == head + steps  # over the longer row's keys


@pytest.mark.parametrize("libraries", [None, CUDA(CARD.capability), CUDA((7, 5)), CUDA((9, 0))])
def test_no_library_changes_the_arithmetic(libraries):
    """Flash, efficient or plain: kernels differ in traffic and launches. Plain alone, of bf16 before Ampere,
    computes what is ahead of a query."""
    plain = libraries == CUDA((7, 5))
    with FakeCard(CARD, libraries=libraries) as card:
        nets = small(torch.bfloat16, "virtual")
        wave, latents = nets.zeros(1, 2, 10 * nets.of.vae.hop), nets.zeros(1, 50, 64)
        ids = nets.zeros(2, 40, dtype=torch.long)
        config = nets.ace_step.config
        for call, form in (
            (lambda: nets.vae.encode(wave), vae_encode_flop(nets.of.vae, 10)),
            (lambda: nets.ace_step.tokenizer(latents), tokenizer_flop(config, 10)),
            (lambda: nets.lm(ids), 2 * qwen3_flop(nets.lm.config, 40, executed=plain)),
        ):
            assert predicted(card, call).work.flop == form
