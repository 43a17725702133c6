"""A prediction is the same bytes in every process, whatever the hash seed, threads, and kind of CPU."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from allocations import cost, setup, song
from places import ROOT, SUPPORT

from harness.trace import shapes

PROGRAM = """
from allocations import fewer_layers
from tests.acestep.costs.test_determinism import digest
with fewer_layers():
    print(digest(steps=2))
"""
PROCESSES = {
    "one thread": {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    "two threads, plain kernels": {
        "PYTHONHASHSEED": "1",
        "OMP_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "default",
    },
}


def digest(steps: int) -> str:
    """SHA-256 of what is said of a generation with everything in it."""
    made = cost(setup(8, lm=True), song(steps=steps, lm=True))
    return hashlib.sha256(json.dumps(made.as_dict()).encode()).hexdigest()


@pytest.fixture(scope="module")
def here() -> str:
    return digest(2)


def test_processes_agree(here):
    """Each of them fresh, and with this one, which is warm."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env=os.environ | environ | {"PYTHONPATH": str(SUPPORT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for environ in PROCESSES.values()
    ]
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert {out.strip() for out, _ in said} == {here}


def test_another_request_is_other_bytes(here):
    assert digest(3) != here


def test_threads_take_turns(here):
    with ThreadPoolExecutor(2) as threads:
        assert set(threads.map(digest, (2, 2))) == {here}


def test_the_garbage_collector_is_left_as_it_was(here):
    gc.disable()
    try:
        assert digest(2) == here
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert digest(2) == here
    assert gc.isenabled()


def test_nothing_of_a_prediction_is_kept_twice(here):
    digest(2)
    known = len(shapes._inferred)
    assert digest(2) == here
    assert len(shapes._inferred) == known
