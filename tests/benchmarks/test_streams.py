"""Streams of the tiny weights: what is in order is read by its class, what is not as made at once fails."""

import math
from types import SimpleNamespace

import pytest

from acestep.engine import Engine
from benchmarks.streaming import TrackFirstAudio

PLANNED, STREAMED = (5, True, 1), (5, False, 1)
METHODS = [name.removeprefix("track_") for name in dir(TrackFirstAudio) if name.startswith("track_")]
LOADED = []  # once, which is what takes its time


@pytest.fixture
def engine(here):
    if not LOADED:
        LOADED.append(here.ace_step.load(here._matrix.PLAIN))
    return LOADED[0]


@pytest.fixture
def measure(here, engine, monkeypatch):
    """From parameters of the class to the class with their record, of one run beside the unrecorded one."""
    monkeypatch.setattr(here.streams, "repeats", lambda: range(2))
    streams = here.streams.Streams(SimpleNamespace(get=lambda name: engine))

    def measured(*params):
        suite = TrackFirstAudio()
        cell = suite.cell(*params)
        record = {"status": "ok", "cell": cell.name} | streams.measure(cell)
        suite.setup({"header": {"status": "ok", "source": "synthetic-tiny"}, cell.name: record}, *params)
        return suite

    return measured


def read(suite) -> dict:
    """Every number of the class: its one sample."""
    values = {name: getattr(suite, f"track_{name}")({}) for name in METHODS}
    return {name: value["samples"][0] if isinstance(value, dict) else value for name, value in values.items()}


def test_a_planned_stream_has_three_parts_before_it_is_heard(measure):
    suite = measure(*PLANNED)
    heard = read(suite)
    assert 0 < heard["first_code"] < heard["latents"] < heard["first_audio"]
    assert 0 < heard["gap_p50"] <= heard["gap_p95"] <= heard["gap_worst"]
    assert 0 < heard["offline_error"] < 5e-5, "tiles of another length round otherwise"
    (run,) = suite.record["runs"]
    assert run["underruns"] == heard["underruns"] and (run["silence_s"] > 0) == (run["underruns"] > 0)
    assert sum(run["stages_s"].values()) == pytest.approx(run["wall_s"])


def test_what_a_stream_has_not_is_not_applicable(measure, monkeypatch):
    stream = Engine.run_stream
    monkeypatch.setattr(Engine, "run_stream", lambda self, plan, chunk_s: stream(self, plan, chunk_s=60.0))
    heard = read(measure(*STREAMED))
    missing = {name for name, value in heard.items() if math.isnan(value)}
    assert missing == {"first_code", "gap_p50", "gap_p95", "gap_worst"}
    assert heard["underruns"] == 0


def test_a_halo_that_is_a_frame_short_fails_the_cell(engine, measure, monkeypatch):
    """At once the song is one tile, which has none."""
    monkeypatch.setattr(engine.models.vae.decoder, "halo", engine.models.vae.decoder.halo - 1)
    with pytest.raises(RuntimeError, match=r"the stream is .* of the peak from what is made at once"):
        measure(*STREAMED)


def test_a_commit_that_streams_nothing_is_not_applicable(here):
    engines = SimpleNamespace(get=lambda name: SimpleNamespace())
    with pytest.raises(here.commit.Unsupported, match="streams nothing"):
        here.streams.Streams(engines).measure(TrackFirstAudio().cell(*STREAMED))
