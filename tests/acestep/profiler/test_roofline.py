"""Floors, shares and what they say, with ceilings made up for the occasion."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from acestep.models.rates import latent_frames
from acestep.profiler.bottleneck import bottleneck
from acestep.profiler.roofline import Ceilings, Conditioning, Load, achieved, loads, prefilled
from acestep.profiler.roofline_card import NEEDED, UNEQUAL, card
from acestep.result import Counts
from acestep.tracing import closed_form
from acestep.tracing.closed_form import Networks, lm_decode_flop, networks
from acestep.weights.layout import LMS

H200 = Ceilings(989e12, 4.8e12, "data sheet")
STAGES_S = {"lm_prefill": 0.02, "lm_decode": 3.0, "diffuse": 0.2, "vae_decode": 0.1, "other": 0.01}


def full(lm: str | None = LMS[1]) -> Networks:
    return networks("synthetic-full", "acestep-v15-turbo", lm, 2)


def expected_counts(duration_s: float, steps: int, *, codes: bool, batch: int = 1) -> Counts:
    """The counts of a song with texts of a typical length."""
    frames, written = latent_frames(duration_s), int(duration_s * 5) if codes else 0
    return Counts(
        audio_s=duration_s,
        latent_frames=frames,
        dit_tokens=-(-frames // 2),
        encoder_tokens=400,
        caption_tokens=80,
        lyric_tokens=319,
        prompts=1,
        dit_steps=steps,
        lm_prompt_tokens=600 * batch if codes else 0,
        lm_prefill_tokens=600 * batch if codes else 0,
        lm_decode_steps=max(written - 1, 0),
        audio_codes=written,
    )


def of_song(duration_s: float, **more) -> dict[str, Load]:
    codes = more.pop("codes", True)
    stages = loads(full(), expected_counts(duration_s, 8, codes=codes), **more)
    return {load.stage: load for load in stages}


def test_a_floor_is_the_longer_of_arithmetic_and_traffic():
    ceilings = Ceilings(flop_per_s=100, bytes_per_s=10, origin="")
    assert Load("s", 3, "step", flop=200, bytes=10).floor_s(ceilings) == 6
    assert Load("s", 3, "step", flop=100, bytes=50).floor_s(ceilings) == 15
    assert Load("s", 1, "step", flop=200, bytes=10).limit(ceilings) == "compute"
    assert Load("s", 1, "step", flop=100, bytes=50).limit(ceilings) == "memory"


@pytest.mark.parametrize(("duration_s", "floor_ms"), [(30, 9.0), (60, 18.2), (120, 37.2), (240, 78.1)])
def test_floors_of_diffusion_are_the_published_ones(duration_s, floor_ms):
    assert of_song(duration_s)["diffuse"].floor_s(H200) * 1000 == pytest.approx(floor_ms, rel=0.01)


def test_floors_of_decoding_are_the_published_ones():
    assert of_song(240)["vae_decode"].floor_s(H200) * 1000 == pytest.approx(30, rel=0.02)
    bare = loads(full(), Counts(lm_prompt_tokens=1, lm_prefill_tokens=1, lm_decode_steps=1, audio_codes=2))
    token = next(load for load in bare if load.stage == "lm_decode")
    assert token.floor_s(H200) * 1000 == pytest.approx(0.64, rel=0.01)


def test_a_songs_limits():
    song = of_song(240)
    assert {stage: load.limit(H200) for stage, load in song.items()} == {
        "lm_prefill": "compute",
        "lm_decode": "memory",
        "text_encode": "memory",
        "condition": "compute",
        "diffuse": "compute",
        "vae_decode": "compute",
    }
    assert of_song(10)["diffuse"].limit(H200) == "memory"  # weights are streamed for few tokens


def test_only_what_runs_is_loaded():
    assert list(of_song(30, codes=False)) == ["text_encode", "condition", "diffuse", "vae_decode"]
    words = networks("synthetic-full", None, LMS[0], 2)
    counts = Counts(lm_prompt_tokens=100, lm_prefill_tokens=130, lm_decode_steps=50)
    assert [load.stage for load in loads(words, counts)] == ["lm_prefill", "lm_decode"]


def test_items_and_guidance():
    one, four = of_song(60), of_song(60, batch=4)
    assert four["diffuse"].flop == 4 * one["diffuse"].flop
    assert four["diffuse"].bytes == one["diffuse"].bytes
    assert (four["vae_decode"].times, four["vae_decode"].flop) == (4, one["vae_decode"].flop)
    half, whole = (of_song(60, guided_passes=passes)["diffuse"].flop for passes in (4, 8))
    plain = one["diffuse"].flop
    assert half - plain == pytest.approx((whole - plain) / 2)
    assert of_song(60, passes=15)["diffuse"].times == 15


def test_text_is_chosen_among_more_of_the_head_than_codes():
    counts = Counts(lm_prompt_tokens=10, lm_prefill_tokens=10, lm_decode_steps=100, audio_codes=101)
    words = Counts(lm_prompt_tokens=10, lm_prefill_tokens=10, lm_decode_steps=100)
    codes_bytes, words_bytes = (loads(full(), each)[1].bytes for each in (counts, words))
    assert words_bytes - codes_bytes == 2 * 2048 * (151_669 - 64_000)


def test_rows_of_one_prompt_share_the_context():
    counts = expected_counts(60, 8, codes=True, batch=2)
    once, twice = (loads(full(), counts, batch=2, lm_phases=n)[1].bytes for n in (1, 2))
    assert once - twice == 2 * 300 * 114_688  # 600 tokens a row, or 300 in each of two phases


def test_guidance_adds_a_row_to_codes_and_none_to_a_thought():
    config = full().lm
    assert config
    counts = Counts(lm_prompt_tokens=300, lm_prefill_tokens=300, lm_decode_steps=150, audio_codes=101)
    _, song = loads(full(), counts, lm_guided=True, lm_phases=2)
    context = 100 + 150 // 2  # three rows were opened: one to think, two to write codes

    def by_hand(thought_rows: int) -> int:
        thought = 50 * lm_decode_flop(config, thought_rows, context, 151_669)
        return thought + 100 * lm_decode_flop(config, 2, context, 64_000)

    assert song.flop * song.times == pytest.approx(by_hand(1), rel=1e-12)
    assert by_hand(2) > 1.2 * by_hand(1)  # the control


def test_forced_runs_are_not_the_prompt():
    assert prefilled(Counts(lm_prompt_tokens=100, lm_prefill_tokens=130)) == 100
    assert prefilled(Counts(lm_prompt_tokens=100, lm_prefill_tokens=70)) == 70


def test_shares_are_of_the_peak_that_limits():
    work = [
        Load("diffuse", 8, "step", flop=1e12, bytes=1),
        Load("lm_decode", 100, "token", flop=1, bytes=1e9),
        Load("condition", 1, "song", flop=1e12, bytes=0),
    ]
    shares = achieved(work, {"diffuse": 0.1, "lm_decode": 0.5}, Ceilings(100e12, 1e12, ""))
    assert shares == {"diffuse_mfu": pytest.approx(0.8), "lm_decode_mbu": pytest.approx(0.2)}


def test_an_unknown_peak_or_a_stage_that_did_not_run_has_no_share():
    work = [Load("diffuse", 8, "step", flop=1e12, bytes=1)]
    assert achieved(work, {"diffuse": 0.1}, None) == {"diffuse_mfu": None}
    assert achieved(work, {}, H200) == {"diffuse_mfu": None}


def test_conditioning_is_all_that_is_computed_once():
    """Of each prompt both encoders and what steps share, the modulation, and what stands for a recording."""
    counts = expected_counts(60.0, 8, codes=False)
    config, how = full().dit, Conditioning(decoded=2, encoded=1, clips=3, steps=9)
    assert config
    by_hand = (
        closed_form.condition_flop(config, 80, 319)
        + closed_form.dit_condition_flop(config, 750, 400, 2)
        + closed_form.dit_modulate_flop(config, 9)
        + closed_form.detokenizer_flop(config, 2 * 300)
        + closed_form.tokenizer_flop(config, 300)
        + closed_form.timbre_flop(config, 3)
    )
    song = {load.stage: load for load in loads(full(), counts, batch=2, conditioning=how)}
    assert song["condition"].flop == by_hand
    text = full().text
    assert text and song["text_encode"].flop == closed_form.qwen3_flop(text, 80)
    plain = {load.stage: load for load in loads(full(), counts)}["condition"].flop
    lyrics = closed_form.condition_flop(config, 80, 319) - closed_form.condition_flop(config, 80, 0)
    assert lyrics > 0.5 * plain  # the control: most of it, which must not be left out


def test_an_island_of_fp32_is_read_in_its_bytes():
    config = full().dit
    assert config
    plain, wide = (closed_form.condition_bytes(config, 2, islands=on) for on in (False, True))
    assert wide - plain == 2 * config.encoder.intermediate_size * config.encoder.hidden_size
    half = networks("synthetic-full", "acestep-v15-turbo", None, 2, islands=True)
    counts = expected_counts(60.0, 8, codes=False)
    bytes_of = [{one.stage: one.bytes for one in loads(of, counts)}["condition"] for of in (full(), half)]
    assert bytes_of == [plain, wide]


@pytest.mark.parametrize("stages_s", [None, STAGES_S])
def test_a_card_fits_a_terminal(stages_s):
    text = card(tuple(of_song(600).values()), "NVIDIA H200", H200, stages_s)
    assert max(map(cell_len, text.splitlines())) <= 80
    assert " ".join(text.splitlines()[-2:]) == NEEDED
    assert "at most 989 TFLOP/s and 4.8 TB/s (data sheet)" in text
    assert ("MBU" in text) == bool(stages_s)


def test_a_card_says_what_is_not_known():
    text = card(tuple(of_song(30).values()), "Fast Card 1", None, STAGES_S)
    assert "--measure-ceilings" in text
    assert "%" not in text
    assert "1.11 T" in text
    unequal = card(tuple(of_song(30).values()), "Fast Card 1", None, STAGES_S, UNEQUAL)
    assert unequal.startswith(f"Fast Card 1: {UNEQUAL}\n") and "--measure-ceilings" not in unequal


def test_a_line_of_a_card():
    line = card([Load("diffuse", 8, "step", 9.65e12, 2.82e9)], "x", H200, {"diffuse": 0.2}).splitlines()[2]
    assert line.split() == "diffuse 8 steps 9.65 T 2.82 GB 78.1 ms compute 200 ms 39.0% MFU".split()


def test_the_longest_stage_is_the_bottleneck():
    longest = bottleneck(STAGES_S, ["--duration", "240", "--sample-query", "a b"])
    assert longest.stage == "lm_decode"
    assert longest.sentence.startswith("lm_decode takes 90% of the wall: ")
    assert longest.command == ("python profile_inference.py --duration 240 --sample-query 'a b' --llm-debug")


@pytest.mark.parametrize(
    ("stage", "flag"),
    [
        ("diffuse", "--trace=trace.json"),
        ("vae_decode", "--trace=trace.json"),
        ("offload", "--no-offload"),
        ("post", "--detailed"),
    ],
)
def test_each_bottleneck_has_its_next_command(stage, flag):
    assert bottleneck({stage: 1.0}).command == f"python profile_inference.py {flag}"


def test_a_flag_that_is_there_is_neither_given_twice_nor_contradicted():
    for spelling in ("--offload", "--offload-to-cpu"):  # whose opposite is advised, where nobody asked for it
        assert bottleneck({"offload": 1.0}, [spelling]).command.endswith(f" {spelling} --trace=trace.json")
    assert bottleneck({"diffuse": 1.0}, ["--trace", "x"]).command.endswith("--trace x --detailed")
    assert bottleneck({"lm_decode": 1.0}, ["--llm-debug"]).command.endswith("--llm-debug --trace=trace.json")
    assert bottleneck({"diffuse": 1.0}, ["--trace", "x", "--detailed"]).command.endswith(
        "--trace x --detailed"
    )


def test_a_quantized_dit_is_read_in_half_the_bytes():
    counts = expected_counts(60.0, 8, codes=False)
    plain, small = (
        {
            load.stage: load
            for load in loads(networks("synthetic-full", "acestep-v15-turbo", None, 2, quantized=on), counts)
        }
        for on in (False, True)
    )
    assert small["diffuse"].bytes == plain["diffuse"].bytes / 2
    assert small["diffuse"].flop == plain["diffuse"].flop
    assert small["vae_decode"] == plain["vae_decode"]


@pytest.mark.parametrize(("name", "most"), [("int8_weight_only", 0.51), ("int4_weight_only", 0.27)])
def test_a_quantized_language_model_is_read_in_its_bytes_and_its_head_in_whole(name: str, most: float):
    counts = expected_counts(60.0, 8, codes=True)
    plain, small = (
        {load.stage: load for load in loads(networks("synthetic-full", None, LMS[1], 2, **how), counts)}
        for how in ({}, {"lm_quantization": name})
    )
    assert most - 0.02 < small["lm_prefill"].bytes / plain["lm_prefill"].bytes < most
    saved = plain["lm_prefill"].bytes - small["lm_prefill"].bytes
    assert plain["lm_decode"].bytes - small["lm_decode"].bytes == pytest.approx(saved)
    assert small["lm_decode"].flop == plain["lm_decode"].flop
