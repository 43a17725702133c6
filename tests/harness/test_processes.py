"""Processes that predict: in order, on one thread each, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from alive import eventually

from harness.processes import Processes

STARTS = """
import os, sys, time
from harness.processes import Processes
if __name__ == "__main__":
    try:
        with Processes(2) as there:
            list(there.map(time.sleep, [600, 600]))
    except KeyboardInterrupt:
        sys.exit(130)
open(f"importing-{os.getpid()}", "w").close()  # as one of them does before it does anything else
time.sleep(1)
"""


def test_answers_come_in_the_order_of_the_questions_from_processes_of_one_thread(tmp_path):
    with Processes(2, os.chdir, tmp_path) as there:
        assert list(there.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert list(there.map(os.path.abspath, ["x", "y"])) == [str(tmp_path / "x"), str(tmp_path / "y")]
        assert list(there.map(os.getenv, ["OMP_NUM_THREADS"])) == ["1"]


def test_what_one_of_them_raises_is_raised_here():
    with Processes(1) as there, pytest.raises(ValueError, match="non-negative"):
        list(there.map(time.sleep, [-1]))


def test_one_that_is_ended_from_outside_is_an_error_of_one_line():
    with Processes(1) as there, pytest.raises(ChildProcessError, match="perhaps for its memory"):
        list(there.map(os._exit, [1]))


def test_an_interrupt_while_they_start_is_not_theirs(tmp_path):
    script = tmp_path / "starts.py"
    script.write_text(STARTS)
    command = subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        eventually(lambda: len(list(tmp_path.glob("importing-*"))) == 2)
        started = psutil.Process(command.pid).children(recursive=True)
        os.killpg(command.pid, signal.SIGINT)
        _, errors = command.communicate(timeout=120)
        assert (command.returncode, errors) == (130, "")
        assert not psutil.wait_procs(started, timeout=60)[1]
    finally:  # whatever failed here is no other test's
        with suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.communicate()
