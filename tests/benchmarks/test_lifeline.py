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
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
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


def test_a_worker_whose_starter_is_gone_does_not_begin(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("print('begun')")
    reader, writer = os.pipe()
    os.close(writer)
    command = [sys.executable, "-P", str(_records.LIFELINE), str(script)]
    done = subprocess.run(command, stdin=reader, capture_output=True, text=True, start_new_session=True)
    os.close(reader)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")
