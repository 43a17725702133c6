"""Of every number of every benchmark: is it compared by ratio or by difference."""

import pytest

from scripts.changes.units import UNITS, by_difference
from scripts.gate.suites import every


@pytest.fixture(scope="module")
def benchmarks():
    return {one.benchmark: one.unit for one in every()}


def test_what_may_be_below_zero_is_compared_by_difference(benchmarks):
    signed = {"dB", "log-log slope"}  # by their definition
    either = {name for name, unit in benchmarks.items() if unit in signed or "intercept" in name}
    assert either and all(by_difference(benchmarks[name], name) for name in either)


def test_amounts_are_compared_by_ratio(benchmarks):
    for unit in ("seconds", "bytes", "FLOP", "launches", "µs"):
        amounts = [name for name, its in benchmarks.items() if its == unit]
        assert amounts and not any(by_difference(unit, name) for name in amounts)


def test_no_unit_of_the_list_is_that_of_no_benchmark(benchmarks):
    assert set(UNITS) <= set(benchmarks.values())
