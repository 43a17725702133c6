"""When a supervisor ends, however it does, its worker and that one's children have ended, too."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import psutil
import pytest
from alive import eventually, is_alive
from places import ZOO

from tiersim import Case, run_case
from tiersim.supervisor import Cancelled

linux = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")


def test_a_cancelled_case_leaves_nobody_behind():
    cancelled = threading.Event()
    pids = []

    def hear(event):
        if event["event"] == "hello":
            pids.append(event["pid"])
            cancelled.set()

    case = Case(4, device="cpu", cap="host", timeout_s=250)
    with pytest.raises(Cancelled):
        run_case(case, worker=(sys.executable, str(ZOO), "hang"), on_event=hear, cancelled=cancelled)
    assert len(pids) == 1 and not is_alive(pids[0])


@linux
@pytest.mark.parametrize("kind", ["hang", "hangs_with_the_interpreter", "leaves_children_and_hangs"])
def test_neither_a_worker_nor_its_children_outlive_a_killed_supervisor(kind, tmp_path):
    code = (
        "import sys, tiersim\n"
        "case = tiersim.Case(4, device='cpu', cap='host')\n"
        "hear = lambda e: print(e['pid'], flush=True) if e['event'] == 'hello' else None\n"
        f"tiersim.run_case(case, worker=(sys.executable, {str(ZOO)!r}, {kind!r}), on_event=hear)"
    )
    pids = tmp_path / "pids"
    pids.touch()
    environ = os.environ | {"ZOO_FILE": str(pids)}
    boss = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environ)
    assert boss.stdout is not None
    with boss:
        family = [int(boss.stdout.readline())]
        if kind == "leaves_children_and_hangs":
            eventually(lambda: len(pids.read_text().split()) == 3)
            family += map(int, pids.read_text().split())
        assert all(map(is_alive, family))
        boss.kill()
    eventually(lambda: not any(map(is_alive, family)))


def zoo_of(process) -> list[psutil.Process]:
    """Its workers; it also asks git who it is."""
    workers = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it may end at any moment
            if str(ZOO) in child.cmdline():
                workers.append(child)
    return workers


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_an_interrupted_supervisor_leaves_nobody_behind(number, exit_code):
    code = (
        "import signal, sys; from functools import partial\n"
        "from tiersim import __main__, pool\n"
        "from tiersim.run import run_plan\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job would ignore it
        f"hanging = partial(run_plan, worker=(sys.executable, {str(ZOO)!r}, 'hang'))\n"
        "pool.run_plans = partial(pool.run_plans, run=hanging)\n"
        "sys.exit(__main__.main(['--tiers', '4', '--device', 'cpu', '--source', 'synthetic-tiny']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        eventually(lambda: zoo_of(process) or process.poll() is not None)
        workers = zoo_of(process)
        time.sleep(0.2)
        process.send_signal(number)
        said = process.communicate(timeout=120)[1]
        assert process.returncode == exit_code and said.splitlines()[-1] == "tiersim: interrupted", said
        assert workers and not any(is_alive(worker.pid) for worker in workers)
    finally:
        process.kill()
        process.communicate()
