"""Events survive being cut anywhere; what is not an event is counted; nothing grows without bound."""

import itertools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.records.memory import ProcessMemory
from tiersim import journal
from tiersim.journal import Journal, thinned
from tiersim.record import Sample

PHASE = b'{"v": 1, "event": "phase", "name": "\xc3\xa9", "monotonic_s": 1}\n'
LINES = PHASE + b'noise\n{"no": 1}\n[2]\n' + PHASE + b'{"v": 1, "event": "resu'


@given(st.lists(st.integers(0, len(LINES))))
def test_events_do_not_depend_on_how_the_bytes_arrive(cuts):
    heard = []
    reader = Journal(heard.append)
    edges = [0, *sorted(cuts), len(LINES)]
    for start, end in itertools.pairwise(edges):
        reader.feed(LINES[start:end])
    assert [event["name"] for event in heard] == ["é", "é"]
    assert (reader.events, reader.steps, reader.refused, reader.phase) == (2, 2, 3, "é")


def test_memory_and_peaks_belong_to_their_phases():
    reader = Journal(started_s=1.0)
    held = {"rss_bytes": 4, "rss_peak_bytes": 9, "driver_bytes": 6}
    more = {"rss_bytes": 5, "rss_peak_bytes": 7, "swap_bytes": 0}
    sent = [
        {"event": "phase", "name": "load", "used_bytes": 5},
        {"event": "hb", "used_bytes": 9},
        {"event": "phase", "name": "diffuse", "ended_peak_bytes": 10, "used_bytes": 3, "ended_process": held},
        {"event": "phase", "name": "load", "ended_peak_bytes": 7},  # of which nothing else is known
        {"event": "oom", "error": "E", "message": "m", "ended_peak_bytes": 8, "ended_process": more},
    ]
    for t_s, event in enumerate(sent):
        reader.feed(json.dumps({"v": 1, "monotonic_s": 1.0 + t_s / 1e6} | event).encode() + b"\n")
    assert reader.stage_peaks == {"load": 10, "diffuse": 7}
    assert [(s.phase, s.used_bytes) for s in reader.samples] == [("load", 5), ("load", 9), ("diffuse", 3)]
    assert [round(s.t_s * 1e6) for s in reader.samples] == [0, 1, 2]
    most = ProcessMemory(rss_bytes=5, rss_peak_bytes=9, swap_bytes=0, driver_bytes=6)
    assert reader.stage_processes == {"load": most}
    assert (reader.events, reader.steps) == (5, 4)  # a heartbeat is no progress


@pytest.mark.parametrize("monotonic_s", [1.0, time.monotonic() + 1e6], ids=["before", "after"])
def test_a_time_outside_of_the_run_is_refused(monotonic_s):
    reader = Journal(started_s=2.0)
    reader.feed(b'{"v": 1, "event": "hb", "monotonic_s": %f}\n' % monotonic_s)
    assert (reader.events, reader.refused) == (0, 1)


def test_a_line_that_never_ends_is_dropped_and_the_next_one_is_not():
    reader = Journal()
    for _ in range(100):
        reader.feed(b"x" * 65536)
        assert len(reader._rest) <= journal.LINE_BYTES
    reader.feed(b"x\n" + PHASE)
    assert (reader.refused, reader.events) == (1, 1)


def test_a_flood_of_events_is_kept_in_bounded_space(monkeypatch):
    monkeypatch.setattr(journal, "SAMPLES_KEPT", 100)
    monkeypatch.setattr(journal, "PHASES", 10)
    reader = Journal()
    for i in range(10_000):
        reader.add({"event": "hb", "monotonic_s": float(i), "used_bytes": 9 if i == 4321 else 1})
        reader.add({"event": "phase", "name": str(i), "ended_peak_bytes": i})
        assert len(reader.samples) <= 100 and len(reader.stage_peaks) <= 10
    assert (reader.events, reader.last["phase"]["name"]) == (20_000, "9999")
    times = [sample.t_s for sample in reader.samples]
    assert times == sorted(times) and len(times) > 40
    assert all(abs(t_s - 10_000 * i / len(times)) < 300 for i, t_s in enumerate(times))  # of all of it
    assert max(reader.samples, key=lambda sample: sample.used_bytes).t_s == 4321


@given(st.lists(st.integers(0, 100), max_size=500), st.integers(1, 50))
def test_a_thinner_timeline_keeps_its_highest_sample_and_its_order(used, number):
    samples = [Sample(float(i), "", bytes_) for i, bytes_ in enumerate(used)]
    few = thinned(samples, number)
    assert len(few) == min(number, len(used))
    assert list(few) == sorted(few, key=lambda sample: sample.t_s)
    assert max((s.used_bytes for s in few), default=0) == max(used, default=0)
