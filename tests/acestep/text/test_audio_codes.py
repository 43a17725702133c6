"""Audio codes as text: what is written reads back, and nothing else is read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acestep.text.audio_codes import CODES, MAX_CODES, clamped, code_name, join, parse
from harness.adjustments import Adjustments
from harness.checks import shown
from harness.errors import UsageError

white = st.text(" \t\n", max_size=3)


@given(st.lists(st.integers(0, CODES - 1), max_size=20))
def test_what_is_written_reads_back(codes: list[int]):
    assert parse(join(codes)) == tuple(codes)


@given(st.lists(st.tuples(white, st.integers(0, CODES - 1), white), min_size=1, max_size=8))
def test_white_space_around_codes_is_nothing(spaced: list[tuple[str, int, str]]):
    text = "".join(before + code_name(code) + after for before, code, after in spaced)
    assert parse(text) == tuple(code for _, code, _ in spaced)


@given(st.lists(st.sampled_from(["<|audio_code_", "7", "63999", "|>", " ", "<|im_end|>", "<", "x", "９"])))
def test_any_text_is_codes_or_refused_in_one_line(parts: list[str]):
    text = "".join(parts)
    try:
        codes = parse(text)
    except UsageError as error:
        assert str(error).startswith("audio_codes: ") and "\n" not in str(error) and len(str(error)) < 200
    else:
        last = str(CODES - 1)
        spelled = re.sub(r"\s|(?<=_)0+(?=\d)", "", text)
        assert join(codes) == re.sub(r"\d+", lambda n: min(n[0], last, key=int), spelled)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("17", "'17' at position 0 is no code"),
        ("<|audio_code_17|>,<|audio_code_4|>", "at position 17 is no code"),
        ("<|audio_code_-1|>", "is no code"),
        ("<|audio_code_１７|>", "is no code"),  # digits, but not ours
        ("<|audio_code_1e3|>", "is no code"),
        ("<|audio_code_" + "9" * 5000 + "|>", "is no code"),
        ("<|audio_code_100000|>", "is no code"),  # longer than any that has a name
        ("<|audio_code_5|><|im_end|>", "'<|im_end|>' at position 16 is no code"),
        ("<|audio_code_5|><think>", "is no code"),
        (" " * 10**6, "is no code"),
        ("<|audio_code_5" * 10**5, "is no code"),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_code_is_named_with_its_place(text: str, words: str):
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        parse(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "value",
    [None, 17, 10**5000, [17, 4], {"codes": []}, b"<|audio_code_1|>"],
    ids=lambda value: shown(value)[:20],
)
def test_only_text_is_codes_as_text(value: object):
    with pytest.raises(UsageError, match=re.escape(f"audio_codes: {shown(value)} is not text")):
        parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        ((), []),
        ((0, 63_999), []),
        ((5, 64_000), ["audio_codes: 64000 is beyond the audio quantizer's values; using 63999"]),
        (
            (65_534, 5, 99_999, 64_000),
            ["audio_codes: 65534 is beyond the audio quantizer's values, as are 2 more; using 63999"],
        ),
    ],
)
def test_a_code_beyond_the_last_stands_for_it_and_is_told(codes: tuple[int, ...], told: list[str]):
    text, changes = join(codes), Adjustments(strict=False)
    nearest = tuple(min(code, 63_999) for code in codes)
    assert parse(text) == parse(clamped(text, changes)) == nearest
    assert clamped(text, changes := Adjustments(strict=False)) == join(nearest)
    assert list(map(str, changes)) == told
    if told:
        with pytest.raises(UsageError, match=r"^audio_codes: .*; ask for 63999 \(strict\)$"):
            clamped(text, Adjustments(strict=True))


def test_ten_minutes_of_codes_are_the_most():
    assert len(parse(join([CODES - 1]) * MAX_CODES)) == MAX_CODES
    with pytest.raises(UsageError, match="more than 3000 codes, which are 600 s"):
        parse(join([0]) * (MAX_CODES + 1))
    with pytest.raises(UsageError, match="more than 3000"):  # and it stops reading there
        parse(join([0]) * (MAX_CODES + 1) + "\0" * 10**6)
