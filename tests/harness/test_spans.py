"""Spans with a clock that ticks when told: sums are exact and nothing sleeps."""

import pytest

from harness.spans import OTHER, observe, record, span, watch


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_stages_and_the_remainder_sum_to_the_wall():
    clock = Clock()
    with record(clock=clock) as times:
        with span("plan"):
            clock.now += 3
        clock.now += 1
        with span("diffuse"):
            for seconds in (2, 4):
                with span("step"):
                    clock.now += seconds
    assert times.stages() == {"plan": 3, "diffuse": 6, OTHER: 1}
    assert sum(times.stages().values()) == times.wall_s == 10
    assert times.samples("diffuse/step") == [2, 4]
    assert times.details() == {"diffuse/step": 6}


def test_a_stage_that_runs_twice_is_one_stage():
    clock = Clock()
    with record(clock=clock) as times:
        for _ in range(2):
            with span("plan"):
                clock.now += 1
    assert times.stages() == {"plan": 2, OTHER: 0}
    assert times.samples("plan") == [1, 1]


def test_the_device_is_synchronised_around_stages_and_never_inside():
    waits = []
    clock = Clock()
    with record(sync=lambda: waits.append(clock.now), clock=clock), span("diffuse"):
        clock.now = 1
        with span("step"):
            clock.now = 2
        clock.now = 3
    assert waits == [0, 0, 3, 3]  # the recording's ends and the stage's, not the step's


def test_boundaries_of_stages_are_watched_when_the_device_is_done():
    calls = []
    with watch(lambda stage: calls.append(stage)):
        with record(sync=lambda: calls.append("sync")), span("diffuse"), span("step"):
            pass
        with record(), span("post"):  # of a device that has no queue
            pass
    assert calls == ["sync", "", "sync", "", "sync", "diffuse", "sync", "", "", "", "post", ""]
    with record(), span("save"):
        pass
    assert calls[-1] == "", "nobody watches any more"
    assert "save" not in calls


def test_a_failing_stage_is_still_timed():
    clock = Clock()
    with pytest.raises(RuntimeError), record(clock=clock) as times, span("save"):
        clock.now = 5
        raise RuntimeError
    assert times.seconds("save") == times.wall_s == 5


def test_without_a_recording_a_span_records_nothing():
    with span("orphan"):
        pass
    with record() as times:
        pass
    assert times.stages().keys() == {OTHER}


def test_an_observer_hears_each_span_begin_recorded_or_not():
    heard = []
    observe(heard.append)
    try:
        with span("load/dit"):
            pass
        with record(), span("diffuse"), span("step"):
            heard.append("inside")
    finally:
        observe(None)
    with span("unheard"):
        pass
    assert heard == ["load/dit", "diffuse", "diffuse/step", "inside"]
