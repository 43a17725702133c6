"""The picture of times against length: points are where their logarithms are, and names are text."""

import re

import pytest

from harness.loglog import Curve, svg


def circles(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', picture)]


def test_what_grows_tenfold_is_as_far_apart_everywhere():
    picture = svg([Curve("a", {1: 0.001, 10: 0.01, 100: 0.1}, {})], "s")
    (x0, y0), (x1, y1), (x2, y2) = circles(picture)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert x0 < x1 and y0 > y1  # longer is right of it, and slower is above
    (x, y), *_ = circles(svg([Curve("a", {1: 0.001, 20: 0.01, 100: 0.1}, {})], "s"))[1:]
    assert x > x1 + 50 and y == y1  # twice the length is not where the tenfold is


def test_measured_is_a_line_with_points_and_predicted_a_dashed_one_without():
    measured, predicted = {5: 1.0, 30: 6.0}, {5: 0.1, 30: 0.6}
    both = svg([Curve("a", measured, predicted)], "s")
    assert (both.count("<path"), both.count("stroke-dasharray"), len(circles(both))) == (2, 1, 2)
    only = svg([Curve("a", {}, predicted)], "s")
    assert (only.count("<path"), only.count("stroke-dasharray"), len(circles(only))) == (1, 1, 0)


def test_an_axis_has_two_ticks_at_least_also_where_nothing_changes():
    picture = svg([Curve("a", {20: 0.2, 40: 0.2}, {})], "s")
    for anchor in ("middle", "end"):
        assert len(re.findall(rf'text-anchor="{anchor}">[\d.e-]+(?: s)?<', picture)) >= 2


def test_names_are_text():
    picture = svg([Curve("<b>&", {1: 1.0, 2: 2.0}, {})], "<i>")
    assert "<b>" not in picture and "<i>" not in picture.replace('<i style="', "")
    assert "&lt;b&gt;&amp;" in picture
