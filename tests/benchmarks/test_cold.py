"""Cold starts: each in a process of its own, phase by phase, on the clock that parent and child share."""

import time

import pytest

from benchmarks import _records
from benchmarks.cold import TrackColdStart

COUNTS = """
import os
def hook(params, config):
    path = os.path.join(os.environ["ASV_CONF_DIR"], "pids")
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\\n")
"""
DIES = """
raise RuntimeError("no such luck")
"""


def test_every_sample_is_a_fresh_process_and_the_first_is_not_recorded(checkout, tmp_path):
    checkout(hook=COUNTS)
    begun_s = time.monotonic()
    records = _records.measure("cold")
    took_s = time.monotonic() - begun_s
    runs = records["cold engine=plain"]["runs"]
    pids = (tmp_path / "pids").read_text().split()
    assert len(pids) == 2 * len(set(pids)) == 2 * (1 + len(runs))
    for run in runs:
        assert list(run["phases_s"]) == ["start", "import_torch", "import_engine", "load", "first", "steady"]
        assert all(seconds > 0 for seconds in run["phases_s"].values())
    assert sum(sum(run["phases_s"].values()) for run in runs) < took_s  # one clock
    suite = TrackColdStart()
    suite.setup(records, "load", False)
    assert suite.track_phase(records, "load", False)["samples"] == pytest.approx(
        [run["phases_s"]["load"] for run in runs], rel=1e-5
    )
    with pytest.raises(NotImplementedError, match="compile does not run in cold engine=plain"):
        suite.setup(records, "compile", False)
    with pytest.raises(NotImplementedError, match="this commit's engine has no compile"):
        suite.setup(records, "load", True)


def test_a_process_that_dies_is_a_failure_and_says_why(checkout, capfd):
    checkout(hook=DIES)
    with pytest.raises(RuntimeError, match="ended with status 1; last words: RuntimeError: no such luck"):
        TrackColdStart().setup(_records.measure("cold"), "load", False)


def test_a_commit_without_an_engine_is_not_applicable(checkout):
    checkout(engine=None)
    with pytest.raises(NotImplementedError, match=r"no acestep\.setup"):
        TrackColdStart().setup(_records.measure("cold"), "load", False)


def test_what_the_compiler_takes_is_not_the_first_calls(inside, monkeypatch):
    ticks = iter([1.0, 3.0, 3.5, 6.0, 16.0, 17.0])
    monkeypatch.setattr(inside.cold_start.time, "monotonic", lambda: next(ticks))
    clock = inside.cold_start.Phases(0.25)
    for name in ("start", "import_torch", "import_engine", "load", "first", "steady"):
        clock.end(name)
    whole = {
        "start": 0.75,
        "import_torch": 2.0,
        "import_engine": 0.5,
        "load": 2.5,
        "first": 10.0,
        "steady": 1.0,
    }
    assert clock.found_s == whole
    assert clock.without_compiling({"diffuse": 3.0}) == whole
    assert clock.without_compiling({"compile": 7.0}) == whole | {"compile": 7.0, "first": 3.0}
