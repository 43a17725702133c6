"""Growth with length as the worker measures it and the benchmark reads it."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from benchmarks import _matrix
from benchmarks.scaling import TrackScaling
from harness import errors, scaling

SLOPE_S, INTERCEPT_S = 0.02, 0.5
ENVIRONMENT = {"source": "synthetic-tiny", "device": "cpu"}


@pytest.fixture
def measure(here, monkeypatch):
    """The record of a component whose seconds are a line; `calls` are the lengths in the order they ran."""
    calls = []

    @contextmanager
    def call(engine, component, length):
        if component == "lm_decode":
            raise errors.MissingPrerequisite("lm: none is there")

        def timed():
            calls.append(length)
            return INTERCEPT_S + SLOPE_S * length, {"frames": 25 * length}

        yield SimpleNamespace(timed=timed)

    engine_part = SimpleNamespace(PREPARED=("lm_decode", "dit_step", "text_encode"), call=call)
    modules = {"acestep.scaling": engine_part, "harness.scaling": scaling, "harness.errors": errors}
    monkeypatch.setattr(here.scaling, "commit_module", modules.__getitem__)

    def record(component, **environment):
        calls.clear()
        engine = SimpleNamespace(environment=ENVIRONMENT | environment)
        return here.scaling.measure(engine, here._matrix.cell("scaling", component=component))

    return SimpleNamespace(record=record, calls=calls, Unsupported=here.commit.Unsupported)


def read(record, method):
    suite = TrackScaling()
    suite.record = record
    return getattr(suite, method)()["samples"]


def test_what_is_read_is_the_growth_of_each_run(measure):
    record = measure.record("dit_step")
    runs = len(record["runs"])
    assert runs == 3 and measure.calls == [*_matrix.TINY_LENGTHS_S] * (1 + runs)  # the first is thrown away
    assert read(record, "track_slope") == pytest.approx([1e3 * SLOPE_S] * runs)
    assert read(record, "track_intercept") == pytest.approx([1e3 * INTERCEPT_S] * runs)
    points = {length: INTERCEPT_S + SLOPE_S * length for length in _matrix.TINY_LENGTHS_S}
    assert read(record, "track_exponent") == pytest.approx([scaling.exponent(points)] * runs, rel=1e-5)
    value, low, high = record["growth"]["slope"]
    assert low <= value <= high and record["counts"][5] == {"frames": 125}


@pytest.mark.parametrize(
    "words, component, lengths",
    [
        ("", "dit_step", (5, 30, 60, 180, 300)),
        ("length_s=5,60", "dit_step", (5, 60)),
        ("length_s=5,60", "text_encode", (16, 32, 64, 128, 256)),
        ("length_tokens=16,256 length_s=5", "text_encode", (16, 256)),
    ],
)
def test_the_filter_takes_lengths_away(measure, monkeypatch, words, component, lengths):
    monkeypatch.setenv(_matrix.FILTER, words)
    assert tuple(measure.record(component, source="synthetic-full")["samples_s"]) == lengths


def test_a_card_has_ten_minutes_too(measure):
    assert 600 in measure.record("dit_step", source="synthetic-full", device="cuda:0")["samples_s"]
    assert 600 not in measure.record("dit_step", device="cuda:0")["samples_s"]  # tiny weights are for minutes


@pytest.mark.parametrize(
    "words, component, reason",
    [
        ("length_s=5", "dit_step", "two are the fewest"),
        ("length_s=60", "dit_step", "0 of its lengths"),
        ("", "mel", "has no mel"),
        ("", "lm_decode", "none is there"),
    ],
)
def test_what_cannot_be_measured_is_not_applicable_and_says_why(
    measure, monkeypatch, words, component, reason
):
    monkeypatch.setenv(_matrix.FILTER, words)
    with pytest.raises(measure.Unsupported, match=reason):
        measure.record(component)


def test_the_components_are_those_of_the_engine():
    from acestep.scaling import PREPARED, TOKENS

    assert {*_matrix.SCALED} - {*PREPARED} == {"mel"} and {*_matrix.OF_TOKENS} == TOKENS
