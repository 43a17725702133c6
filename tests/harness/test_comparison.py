"""Ratios are of equal work only, and say whether they can be told from 1."""

from dataclasses import replace

import pytest

from harness.comparison import Leg, UnequalWork, Work, in_turn, in_words, of_pairs, ratio

WORK = Work("abc", "tiny", 16_000, 100, 10**9, 1)


def leg(seconds, work=WORK, backend="torch-cpu") -> Leg:
    return Leg(backend, "cpu", "float32", work, tuple(seconds), tuple(seconds))


def test_pairs_beside_one_another_are_compared_pair_by_pair():
    slow_then_fast = (1.0, 2.0, 8.0, 4.0)  # what slowed the machine slowed both
    twice = ratio(leg([2 * s for s in slow_then_fast], backend="mlx-cpu-openblas"), leg(slow_then_fast))
    assert twice == pytest.approx((2.0, 2.0, 2.0)) and twice.tells_from(1)
    assert in_words(twice) == "2.00 (2.00 to 2.00)"


@pytest.mark.parametrize("field", Work._fields)
def test_unequal_work_has_no_ratio(field):
    other = WORK._replace(**{field: "other"})
    with pytest.raises(UnequalWork, match=f"no ratio of unequal work .{field} "):
        ratio(leg([1.0], other), leg([1.0]))


def test_what_scatters_about_1_is_not_significant():
    estimate = of_pairs([1.0, 1.1, 0.9, 1.05, 0.96], [1.0] * 5)
    assert "not significant" in in_words(estimate)
    assert in_words(of_pairs([3.0], [2.0])) == "1.50 (one pair: no interval)"
    assert leg([1.0]).as_dict()["work"] == WORK._asdict()
    assert replace(leg([3.0, 1.0, 2.0])).median_s == 2.0


def test_either_is_first_in_every_other_pair():
    calls: list[str] = []
    list(in_turn(lambda: calls.append("a"), lambda: calls.append("b"), 3))
    assert calls == [*"abbaab"]
