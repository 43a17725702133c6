"""Foreign text on a terminal: it gives no orders, it fills no screen, and what cannot be shown is told."""

import pytest
from rich.cells import cell_len

from harness.text import MAX_CHARS, PLAIN, PLAINLY, harmless, wrapped

WARNING = "⚠\ufe0f"  # one sign of two characters
ORDERS = "\x1b[2J\u202egnp.exe\u2066\x9b2J\udcff\x00\r\u2028"


@pytest.mark.parametrize("keep", ["", "\n"])
@pytest.mark.parametrize("most", [10, MAX_CHARS, 100_000])
def test_any_length_of_any_text_is_harmless_and_bounded(keep: str, most: int):
    for text in (ORDERS, ORDERS * most, "x" * 10**6, "夜" * most):
        shown = harmless(text, keep, most)
        assert shown.replace("\n", "").isprintable() and len(shown) <= len(r"\u202e") * most + 40


def test_what_is_cut_keeps_its_beginning_and_its_end_and_says_how_much_is_missing():
    text = f"model_type: {'a' * 10**6} is not known; use acestep"
    shown = harmless(text)
    assert shown.startswith("model_type: aaa") and shown.endswith("aaa is not known; use acestep")
    assert f"{len(text) - MAX_CHARS:,} characters" in shown
    assert harmless(text[:MAX_CHARS]) == text[:MAX_CHARS]


def test_lines_of_any_text_are_bounded():
    assert sum(map(len, wrapped("ab " * 10**6, 40))) <= MAX_CHARS + 40


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_what_an_encoding_lacks_has_a_likeness_as_wide(encoding: str):
    for character in (*set(PLAIN).difference(WARNING), WARNING):
        shown = character.encode(encoding, PLAINLY).decode(encoding)
        assert cell_len(shown) == cell_len(character)
    rule = "─" * 78
    assert len(rule.encode(encoding, PLAINLY)) == 78
    assert "夜─\udcff".encode("ascii", PLAINLY) == b"\\u591c-\\udcff"
    assert "夜─\udcff".encode("utf-8", PLAINLY).decode() == "夜─\\udcff"
