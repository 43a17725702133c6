"""A prediction is the same bytes in every process, whatever the hash seed, threads, and kind of CPU, and
whatever the process did before."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
from allocations import cost, setup, song
from places import ROOT, SUPPORT
from torch._C._dynamo.eval_frame import set_eval_frame

from harness.trace import fake_card, frames, shapes

PROGRAM = """
from allocations import fewer_layers
from tests.acestep.costs.test_determinism import lines
with fewer_layers():
    print(*lines(steps=2), sep="\\n")
"""
# Where this process has one thread, a seed of its own and the kernels of its CPU.
FRESH = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2", "ATEN_CPU_CAPABILITY": "default"}


def lines(steps: int, repeat: bool = True) -> list[str]:
    """All that is said of a generation with everything in it, a value a line."""
    made = cost(setup(8, lm=True), song(steps=steps, lm=True), repeat=repeat)
    return json.dumps(made.as_dict(), indent=1).splitlines()


@pytest.fixture(scope="module")
def here() -> list[str]:
    return lines(2)


@pytest.fixture
def hooked() -> Iterator[None]:
    """The hook on frames that `torch.compile` leaves behind where compiling fails."""
    set_eval_frame(False)
    theirs = frames.hook()
    set_eval_frame(None)
    frames.set_hook(theirs)
    yield
    frames.set_hook(frames.PYTHON)


def test_processes_agree(here):
    """A fresh one, and this one, which is warm."""
    program = [sys.executable, "-c", PROGRAM]
    environ = os.environ | FRESH | {"PYTHONPATH": str(SUPPORT)}
    fresh = subprocess.run(program, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert fresh.returncode == 0, fresh.stderr
    assert fresh.stdout.splitlines() == here


def test_another_request_is_other_bytes(here):
    assert lines(3) != here


def test_a_hook_on_frames_changes_nothing(here, hooked, monkeypatch):
    assert lines(2, repeat=False) == here
    monkeypatch.setattr(fake_card, "unhooked", nullcontext)
    assert lines(2, repeat=False) != here


def test_threads_take_turns(here):
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lines, (2, 2))) == [here, here]


def test_the_garbage_collector_is_left_as_it_was(here):
    gc.disable()
    try:
        assert lines(2) == here
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert lines(2) == here
    assert gc.isenabled()


def test_nothing_of_a_prediction_is_kept_twice(here):
    lines(2)
    known = len(shapes._inferred)
    assert lines(2) == here
    assert len(shapes._inferred) == known
