"""A recorder for the CPU that stands for CUDA graphs.

It remembers operators with their arguments and the memory of their results. A replay computes them again into
that memory, from whatever values are there then; Python is not asked. Recording computes nothing: until the
replay, results are not numbers.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness import graphs
from harness.graphs import Step
from harness.virtual_card import key_of, tensors


class Tape(TorchDispatchMode):
    """The operators of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        old = set(map(key_of, tensors((args, kwargs.values()))))
        self.calls.append((func, args, kwargs, [t for t in tensors((output,)) if key_of(t) not in old]))
        return output

    def spoil(self) -> None:
        for *_, results in self.calls:
            for result in results:
                if result.is_floating_point():
                    result.fill_(torch.nan)

    def replay(self) -> None:
        for func, args, kwargs, results in self.calls:
            old = set(map(key_of, tensors((args, kwargs.values()))))
            again = [t for t in tensors((func(*args, **kwargs),)) if key_of(t) not in old]
            for result, value in zip(results, again, strict=True):
                result.copy_(value)


class CPURecorder:
    """`replays`: how often each recording was replayed, as they were made; `alive`: how many there are."""

    def __init__(self, *, tapes: bool = True):
        """Without `tapes` a replay calls the step again: compiled code holds for no observer of operators."""
        self.replays: list[int] = []
        self._observes = tapes
        self._tapes: weakref.WeakSet[Tape] = weakref.WeakSet()

    @property
    def alive(self) -> int:
        return len(self._tapes)

    def record(self, step: Step) -> Step:
        tape, place = Tape(), len(self.replays)
        with tape if self._observes else nullcontext():
            step()
        tape.spoil()
        self._tapes.add(tape)
        self.replays.append(0)

        def replay() -> None:
            self.replays[place] += 1
            tape.replay() if self._observes else step()

        return replay


def recording_cpu(monkeypatch: pytest.MonkeyPatch, *, tapes: bool = True) -> CPURecorder:
    """The recorder of every CPU device from here on; setups still have to want one."""
    recorder = CPURecorder(tapes=tapes)
    monkeypatch.setitem(graphs.recorders, "cpu", lambda device: recorder)
    return recorder
