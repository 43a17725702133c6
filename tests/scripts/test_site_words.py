"""Amounts, exit codes and ages in the words of the site."""

import math

import pytest

from scripts.changes.history import Commit
from scripts.changes.report import Moved, Shift
from scripts.changes.show import age
from scripts.site import amounts, fits_verdicts


def moved(base, head, error):
    known = Commit("a" * 40, "2026-10-01", "")
    ratio = head / base
    low, high = (ratio * math.exp(way * error) for way in (-1, 1))
    return Shift(
        "diffuse", "DiT", "seconds", False, head > base, False, True, known, known, known, 1, ratio - 1,
        low - 1, high - 1, (Moved("x", base, head, ratio, low, high),),
    )  # fmt: skip


def test_moves_add_up_and_so_do_their_errors():
    """+25 % and then -10 %: +12.5 %; errors of 3 % and 4 %, in logarithms, are 5 %."""
    total = amounts.net([moved(1.0, 1.25, 0.03), moved(1.25, 1.125, 0.04)])
    assert total.change == pytest.approx(0.125) and total.worse
    assert 1 + total.low == pytest.approx(1.125 * math.exp(-0.05))
    assert 1 + total.high == pytest.approx(1.125 * math.exp(0.05))


@pytest.mark.parametrize(
    ("code", "text"), [(0, "fits"), (20, "out of memory"), (137, "failed, exit code 137")]
)
def test_an_exit_code_in_words(code, text):
    assert fits_verdicts.words(code) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "at no known time"), (0.4, "0 seconds ago"), (60, "1 minute ago"), (-59, "59 seconds ago"),
        (-40 * 86_400, "40 days ahead of this clock"), (2 * 86_400, "2 days ago"),
    ],
)  # fmt: skip
def test_how_long_ago_in_words(seconds, words):
    assert age(seconds) == words
