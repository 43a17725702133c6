"""What a budget did not allow: in words, with a budget that would do, which the flag reads."""

import pytest

from harness.budget import shortage, spelled
from harness.flags import span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1s"),
        (12.2, "13s"),
        (90.0, "90s"),
        (90.5, "2m"),
        (600.0, "10m"),
        (3600.0, "60m"),
        (3601.0, "1.1h"),
    ],
)
def test_a_budget_is_spelled_as_the_flag_reads_it_and_is_never_too_small(seconds, text):
    assert spelled(seconds) == text
    assert seconds <= span(text) <= max(1.0, 2 * seconds)


def test_a_shortage_says_what_is_needed_what_was_left_and_what_would_do():
    assert shortage(39.2, 12.0, 100.0) == "needs about 40 s; 12 s were left; --budget 2m would do it"
    assert shortage(39.2, -3.0, None) == "needs about 40 s; 0 s were left"
    assert shortage(39.2, 12.0, 51.2, 100.0, 3) == (
        "needs about 40 s; 12 s were left; --budget 52s would do it, and 2m for all 3"
    )
    assert shortage(None, 4.0, 100.0) == "may take any time, as nothing has run yet; 4 s were left"
