"""Checks of single values: whatever comes in, a clean value or one short line comes out."""

import math
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.checks import MAX_PATH_CHARS, flag, one_of, path, sequence, shown, text, within
from harness.errors import UsageError
from harness.reading import plain_newlines


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


HUGE = [10**5000, -(10**5000), [10**5000], nested(3000), "x" * 10**6, ["x" * 10**6], {"k": "\n" * 10**5}]


@pytest.mark.parametrize("value", HUGE, ids=lambda value: type(value).__name__)
def test_whatever_a_value_is_it_is_shown_in_one_short_line(value: object):
    assert len(shown(value)) <= 60 and "\n" not in shown(value)


def test_a_value_that_fits_is_shown_as_it_is():
    for value in (7, 0.5, "夜", "a\nb", None, ["x"]):
        assert shown(value) == repr(value)


@pytest.mark.parametrize(
    ("low", "high", "kind", "words"),
    [
        (0, 2**32 - 1, int, "a whole number from 0 to 4294967295"),
        (0, 1_000_000, int, "a whole number from 0 to 1000000"),
        (0.1, 20.0, float, "a number from 0.1 to 20"),
    ],
)
def test_bounds_are_named_exactly_and_are_allowed(low: float, high: float, kind: type, words: str):
    within("field", low, low, high, kind)
    within("field", high, low, high, kind)
    for beyond in (low - 1, high + 1, 10**5000, math.nan, math.inf, -math.inf, True, "1", None, [low]):
        with pytest.raises(UsageError, match=words) as caught:
            within("field", beyond, low, high, kind)
        assert str(caught.value).startswith(f"field: {shown(beyond)}")


def test_a_whole_number_is_no_fraction():
    within("field", 3, 0, 9)
    with pytest.raises(UsageError, match="whole number"):
        within("field", 3.0, 0, 9, int)


@pytest.mark.parametrize("value", [*HUGE, None, 1, "", "B"], ids=lambda value: shown(value)[:20])
def test_a_word_is_one_of_those_there_are(value: object):
    one_of("field", "a", ["a", "b"])
    with pytest.raises(UsageError, match=r"^field: .* is not allowed; use one of a, b$"):
        one_of("field", value, ["a", "b"])


@pytest.mark.parametrize("value", [0, 1, None, "true", math.nan, []])
def test_a_flag_is_nothing_but_true_or_false(value: object):
    flag("field", True)
    with pytest.raises(UsageError, match=r"^field: .* use true or false$"):
        flag("field", value)


@given(st.text(st.characters(codec=None), max_size=30))
def test_a_text_is_clean_or_refused(value: str):
    """Clean: neither control characters, with which one could write to a terminal, nor half a character."""
    try:
        clean = text("field", value, 20)
    except UsageError as error:
        message = str(error)
        assert message.startswith("field: ") and message.isprintable() and len(message) < 100
        assert len(value) > 20 or any(unicodedata.category(c) in ("Cc", "Cs") for c in value)
    else:
        assert clean == plain_newlines(value) and len(clean) <= 20
        assert {c for c in clean if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n", "\t"}


@pytest.mark.parametrize("control", ["\0", "\x1b", "\x7f", "\x85", "\x9b"])
def test_a_control_character_is_named_with_its_place(control: str):
    assert text("field", "a\tb\r\nc\rd", 20) == "a\tb\nc\nd"  # as a file's newlines
    with pytest.raises(UsageError, match=rf"U\+{ord(control):04X} at position 2; remove it"):
        text("field", f"ab{control}c", 20)


def test_text_is_counted_in_characters():
    assert text("field", "😀" * 20, 20)
    with pytest.raises(UsageError, match="21 characters are too many; use at most 20"):
        text("field", "x" * 21, 20)


class Bytes:
    def __fspath__(self) -> bytes:
        return b"song.wav"


@pytest.mark.parametrize("value", ["", None, 3, b"song.wav", Bytes(), "a\0b", "x" * (MAX_PATH_CHARS + 1), []])
def test_what_is_no_path_is_refused(value: object):
    assert path("field", Path("song.wav")) == path("field", "song.wav") == "song.wav"
    with pytest.raises(UsageError, match=re.escape(f"field: {shown(value)} is not the path of")):
        path("field", value)


def test_a_list_is_bounded_and_one_value_is_a_list_of_one():
    assert sequence("field", "drums", 2) == ("drums",) and sequence("field", 0.5, 2) == (0.5,)
    assert sequence("field", ["a", "b"], 2) == sequence("field", ("a", "b"), 2) == ("a", "b")
    with pytest.raises(UsageError, match="field: 1,000,000 values are too many; use at most 2"):
        sequence("field", ["a"] * 10**6, 2)
    for value in (None, {}, {"a": 1}, object()):
        with pytest.raises(UsageError, match=r"field: .* is not a list"):
            sequence("field", value, 2)
