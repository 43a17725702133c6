"""Recorders for the CPU that say what became of their recordings."""

from __future__ import annotations

import weakref

import pytest
from replaying import Replaying

from harness import graphs
from harness.graphs import Step


class CPURecorder:
    """`replays`: how often each recording was replayed, as they were made; `alive`: how many there are."""

    def __init__(self, *, operators: bool = True):
        """Without `operators` a replay calls the step: compiled code holds for no observer of operators."""
        self.replays: list[int] = []
        self._recorder = Replaying() if operators else None
        self._alive: weakref.WeakSet[Step] = weakref.WeakSet()

    @property
    def alive(self) -> int:
        return len(self._alive)

    def record(self, step: Step) -> Step:
        recording = self._recorder.record(step) if self._recorder else step
        place = len(self.replays)
        self.replays.append(0)

        def replay() -> None:
            self.replays[place] += 1
            recording()

        self._alive.add(replay)
        return replay


def recording_cpu(monkeypatch: pytest.MonkeyPatch, *, operators: bool = True) -> CPURecorder:
    """The recorder of every CPU device from here on; setups still have to want one."""
    recorder = CPURecorder(operators=operators)
    monkeypatch.setitem(graphs.recorders, "cpu", lambda device: recorder)
    return recorder
