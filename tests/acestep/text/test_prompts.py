"""Prompts, character for character as the models were trained on them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.tasks import instruction
from acestep.text import prompts
from acestep.text.metadata import Metadata
from acestep.text.prompts import CAPTION_LIMIT, LYRIC_LIMIT, encoder_ids
from acestep.text.tokenizer import (
    ENDOFTEXT,
    FIRST_CODE,
    IM_END,
    IM_START,
    NEWLINE,
    SPECIAL_TOKENS,
    THINK,
    THINK_END,
)
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer

METADATA = Metadata(bpm=100, duration=200, keyscale="E♭ minor", language="ja", timesignature="4")
SYSTEM = (
    "<|im_start|>system\n# Instruction\nGenerate audio semantic tokens based on the given conditions:\n\n"
    "<|im_end|>\n"
)


@pytest.fixture(scope="module")
def tokenizer():
    return synthetic_tokenizer("lm")


def text_of(parts):
    return "".join(p if isinstance(p, str) else SPECIAL_TOKENS[p - ENDOFTEXT] for p in parts)


def test_caption_prompt():
    assert text_of(prompts.caption_prompt(instruction("text2music"), "A song", METADATA)) == (
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n"
        "# Caption\nA song\n\n"
        "# Metas\n- bpm: 100\n- timesignature: 4\n- keyscale: E♭ minor\n- duration: 200 seconds\n"
        "<|endoftext|>\n"
    )


def test_unknown_metas_have_their_defaults():
    assert text_of(prompts.caption_prompt("Do this", "", Metadata())) == (
        "# Instruction\nDo this:\n\n# Caption\n\n\n"
        "# Metas\n- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n- duration: 30 seconds\n<|endoftext|>\n"
    )


def test_a_caption_that_is_a_prompt_is_unwrapped():
    whole = text_of(prompts.caption_prompt("Do this:", "A song\nof two lines", METADATA)[:1])
    assert prompts.caption_prompt("Do this:", whole, METADATA)[0] == whole
    unusual = "# Instruction without the other headings"
    assert unusual in prompts.caption_prompt("Do this:", unusual, METADATA)[0]


def test_lyric_prompt():
    assert text_of(prompts.lyric_prompt("en", "La\nla")) == "# Languages\nen\n\n# Lyric\nLa\nla<|endoftext|>"


def test_encoder_ids_end_in_the_appended_token(tokenizer):
    caption = prompts.caption_prompt("Do this:", "A song", METADATA)
    assert encoder_ids(tokenizer, caption, CAPTION_LIMIT)[-3:] == [ENDOFTEXT, NEWLINE, ENDOFTEXT]
    lyric = prompts.lyric_prompt("en", "La la")
    assert encoder_ids(tokenizer, lyric, LYRIC_LIMIT)[-2:] == [ENDOFTEXT, ENDOFTEXT]


@pytest.mark.parametrize("limit", [CAPTION_LIMIT, LYRIC_LIMIT])
def test_truncation_keeps_the_appended_token(tokenizer, limit):
    parts = prompts.lyric_prompt("en", "8" * 3000)
    ids = encoder_ids(tokenizer, parts, limit)
    assert len(ids) == limit
    assert ids == [*tokenizer.encode(parts[0])[: limit - 1], ENDOFTEXT]


def test_phase_1():
    user = "<|im_start|>user\n# Caption\nA song\n\n# Lyric\nLa la\n<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(prompts.phase1_prompt("A song", "La la")) == SYSTEM + user


def test_phase_2_goes_on_in_the_open_turn():
    planned = prompts.phase2_prompt("A song", "La la", Metadata(bpm=100, duration=20).to_yaml())
    assert text_of(planned) == SYSTEM + (
        "<|im_start|>user\n# Caption\nA song\n\n# Lyric\nLa la\n<|im_end|>\n<|im_start|>assistant\n"
        "<think>\nbpm: 100\nduration: 20\n</think>\n\n"
    )


@pytest.mark.parametrize(
    ("negative", "user"),
    [
        *(((nothing,), "NO USER INPUT") for nothing in ("NO USER INPUT", " NO USER INPUT\n", "", " \n")),
        ((), "NO USER INPUT"),
        (("noise\nand hiss",), "noise\nand hiss"),
    ],
)
def test_guidance_of_phase_2_leads_away_from_a_bare_turn(negative, user):
    assert text_of(prompts.phase2_unconditional(*negative)) == SYSTEM + (
        f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


def turns(instruction, user):
    return (
        f"<|im_start|>system\n# Instruction\n{instruction}\n\n<|im_end|>\n"
        f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    )


def test_understand_reads_codes_as_tokens(tokenizer):
    instruction = "Understand the given musical conditions and describe the audio semantics accordingly:"
    assert text_of(prompts.understand_prompt([])) == turns(instruction, "NO USER INPUT")
    ids = tokenizer.encode_prompt(prompts.understand_prompt([7, 63999]))
    assert tokenizer.decode(ids) == turns(instruction, "<|audio_code_7|><|audio_code_63999|>")
    assert [id_ for id_ in ids if id_ >= FIRST_CODE] == [FIRST_CODE + 7, FIRST_CODE + 63999]


@pytest.mark.parametrize(
    ("query", "instrumental", "user"),
    [
        ("a sad song", False, "a sad song\n\ninstrumental: false"),
        ("", True, "NO USER INPUT\n\ninstrumental: true"),
    ],
)
def test_create(query, instrumental, user):
    instruction = "Expand the user's input into a more detailed and specific musical description:"
    assert text_of(prompts.create_prompt(query, instrumental)) == turns(instruction, user)


@pytest.mark.parametrize(
    ("caption", "lyrics", "user"),
    [
        ("A song", "La\nla", "# Caption\nA song\n\n# Lyric\nLa\nla"),
        ("", "", "# Caption\nNO USER INPUT\n\n# Lyric\n[Instrumental]"),
    ],
)
def test_format(caption, lyrics, user):
    instruction = "Format the user's input into a more detailed and specific musical description:"
    assert text_of(prompts.format_prompt(caption, lyrics)) == turns(instruction, user)


hostile = st.lists(st.sampled_from([*SPECIAL_TOKENS, "<|audio_code_5|>", "# Lyric\n", "la "])).map("".join)


@settings(deadline=None)
@given(hostile, hostile, hostile)
def test_user_text_adds_no_special_token(caption, lyrics, negative):
    tokenizer = synthetic_tokenizer("lm")
    closed = [IM_START, IM_END, IM_START, IM_END, IM_START]
    thought = [*closed, THINK, THINK_END]
    built = {
        "phase 1": (prompts.phase1_prompt(caption, lyrics), closed),
        "phase 2": (prompts.phase2_prompt(caption, lyrics, Metadata(caption=caption).to_yaml()), thought),
        "phase 2 unconditional": (prompts.phase2_unconditional(negative), thought),
        "create": (prompts.create_prompt(caption, False), closed),
        "format": (prompts.format_prompt(caption, lyrics), closed),
        "caption": (prompts.caption_prompt("Do this:", caption, METADATA), [ENDOFTEXT]),
        "lyric": (prompts.lyric_prompt("en", lyrics), [ENDOFTEXT]),
    }
    for name, (parts, expected) in built.items():
        assert [id_ for id_ in tokenizer.encode_prompt(parts) if id_ >= ENDOFTEXT] == expected, name
