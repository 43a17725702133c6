"""A worker and what it started end with whoever waits for them, and what it started ends with the worker."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from places import ROOT

from benchmarks import _records
from benchmarks.dit import TimeDiT

STARTS_A_CHILD = """
import os, signal, subprocess, sys, time
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeper, start_new_session=True, env={})
open(os.environ["ASV_CONF_DIR"] + "/pids", "w").write(f"{os.getpid()} {child.pid}")
"""
IN_AN_ENGINE = "def hook(params, config):\n" + STARTS_A_CHILD.replace("\n", "\n    ")
DIES = "os.kill(os.getpid(), signal.SIGKILL)\n"
WAITS = "time.sleep(600)\n"
MEASURE = "from benchmarks import _records; _records.measure('timing')"


def processes(folder):
    """The worker and its child, as soon as both are there."""
    file = folder / "pids"
    while not file.exists() or " " not in file.read_text():
        time.sleep(0.05)
    return [psutil.Process(int(pid)) for pid in file.read_text().split()]


def test_a_worker_that_is_killed_leaves_nothing_and_is_not_waited_for(checkout, tmp_path, capfd):
    checkout(hook=IN_AN_ENGINE + DIES)
    records = _records.measure("timing")
    with pytest.raises(RuntimeError, match="the worker was killed by SIGKILL before this cell was done"):
        TimeDiT().setup(records, 5, 1, 8, "none")
    child = int((tmp_path / "pids").read_text().split()[1])
    deadline_s = time.monotonic() + 60
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


@pytest.mark.parametrize("own", [False, True], ids=["ours", "the commit's own"])
def test_a_worker_ends_with_the_process_that_waits_for_it(checkout, tmp_path, own):
    checkout(hook=IN_AN_ENGINE + WAITS)
    if own:
        worker = tmp_path / "env" / "project" / "benchmarks" / "_worker.py"
        worker.parent.mkdir()
        worker.write_text(STARTS_A_CHILD + WAITS)
    search = os.pathsep.join((os.environ["PYTHONPATH"], str(ROOT)))
    waiting = subprocess.Popen([sys.executable, "-c", MEASURE], env={**os.environ, "PYTHONPATH": search})
    started = processes(tmp_path)
    assert all(process.is_running() for process in started)
    waiting.send_signal(signal.SIGKILL)
    waiting.wait()
    assert psutil.wait_procs(started, timeout=60)[1] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_worker_by_hand_ends_as_every_command_does(checkout, tmp_path, number):
    checkout(hook=IN_AN_ENGINE + WAITS)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environ = {**os.environ, "TMPDIR": str(temporary)}
    command = [sys.executable, "-P", str(_records.WORKER), "timing", str(tmp_path / "timing.jsonl")]
    worker = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    child = processes(tmp_path)[1]
    assert [path.name[:14] for path in temporary.iterdir()] == ["bench-scratch-"]
    worker.send_signal(number)
    worker.wait(60)
    child.kill()  # which has its standard error, too
    assert worker.communicate()[1].endswith("measure: interrupted\n")
    assert worker.returncode == 128 + number and list(temporary.iterdir()) == []
