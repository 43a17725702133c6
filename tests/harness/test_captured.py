"""Functions as steps over fixed buffers: what is copied, what is run, and when it ends."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
import torch
from recorders import CPURecorder
from torch import Tensor

from harness.captured import Captured
from harness.graphs import Graphs

X = torch.arange(3.0)


class Doubled:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


def capture(graphs: Graphs, met: set[Hashable]) -> Captured:
    return Captured("diffuse", graphs, met)


def test_a_result_outlives_the_next_replay():
    function = Doubled()
    with capture(Graphs(CPURecorder()), set()) as captured:
        captured.record("double", 3, function, torch.empty(3), X)
        first, second = captured.run("double", function, X), captured.run("double", function, X + 1)
        other = captured.run("another", function, X)
    assert torch.equal(first, 2 * X) and torch.equal(second, 2 * X + 2) and torch.equal(other, 2 * X)
    assert function.calls == 3  # met, recorded, and the other key


def test_a_bucket_is_run_before_its_first_recording_alone():
    function, met = Doubled(), set()
    for _ in range(3):
        with capture(Graphs(CPURecorder()), met) as captured:
            captured.record("double", 3, function, torch.empty(3), X)
    assert function.calls == 1 + 3 and met == {3}


def test_what_nothing_records_is_called_as_it_is():
    function = Doubled()
    with capture(Graphs(), set()) as captured:
        assert not captured.recording
        assert captured.run("double", function, X).equal(2 * X) and function.calls == 1


@pytest.mark.parametrize("error", [None, ValueError("no")])
def test_recordings_end_with_the_block(error: Exception | None):
    recorder, function = CPURecorder(), Doubled()
    captured = capture(Graphs(recorder), set())
    try:
        with captured:
            captured.record("double", 3, function, torch.empty(3), X)
            assert recorder.alive == 1
            if error:
                raise error
    except ValueError:
        pass
    assert recorder.alive == 0 and captured.run("double", function, X).equal(2 * X)
