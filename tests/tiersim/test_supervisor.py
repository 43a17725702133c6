"""A zoo of workers: each way to end has one status, and none disturbs what comes next."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tiersim import Case, run_case, supervisor
from tiersim.case import resolve

ZOO = Path(__file__).with_name("zoo.py")
MIB = 2**20


def run(kind: str, **fields):
    case = Case(**{"tier_gb": 4, "device": "cpu", "timeout_s": 60} | fields)
    return run_case(case, worker=(sys.executable, str(ZOO), kind))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_S", 0.3)


@pytest.mark.parametrize(
    ("kind", "status", "exit_code", "words"),
    [
        ("ok", "ok", 0, ""),
        ("segv", "crash", -11, "SIGSEGV in phase load"),
        ("segv_after_result", "crash", -11, "SIGSEGV"),
        ("abort", "crash", -6, "SIGABRT"),
        ("bad_alloc", "host-oom", -6, "std::bad_alloc"),
        ("no_threads", "host-oom", 1, "libgomp"),
        ("kill", "crash", -9, "out-of-memory killer"),
        ("exception", "error", 70, "ValueError: a message (exit code 70)"),
        ("exit_1", "error", 1, "no message (exit code 1)"),
        ("silent", "error", 0, "without a result"),
        ("half_line", "error", 0, "without a result"),
        ("not_an_event", "ok", 0, ""),
        ("many_events", "ok", 0, ""),
        ("closes_the_pipe", "ok", 0, ""),
        ("prerequisite", "error", 3, "no folder"),
        ("over_the_tier", "host-oom", 0, "over 4 GB"),
    ],
)
def test_each_way_to_end_has_one_status(kind, status, exit_code, words):
    record = run(kind)
    assert (record.status, record.exit_code) == (status, exit_code), record
    assert words in record.reason
    assert "\n" not in record.reason
    assert record.phase_reached == "load"


def test_a_success_carries_its_figures():
    record = run("ok")
    assert (record.reason, record.signal) == ("", None)
    assert (record.peak_bytes, record.load_peak_bytes) == (123 * MIB, 100 * MIB)
    assert (record.wall_s, record.stages_s) == (1.5, {"diffuse": 1.5})
    assert record.environment == {"source": "zoo", "python": "3", "platform": "zoo"}
    assert "noise from below" in record.log


def test_a_crash_leaves_its_stack_in_the_log():
    record = run("segv")
    assert record.signal == "SIGSEGV"
    assert "Segmentation fault" in record.log and "string_at" in record.log


@pytest.mark.parametrize(
    ("kind", "signal_name"), [("hang", "SIGTERM"), ("ignores_term", "SIGKILL"), ("knocked_out", None)]
)
def test_a_worker_over_its_time_is_ended(impatient, kind, signal_name):
    record = run(kind, timeout_s=3)
    assert (record.status, record.signal) == ("timeout", signal_name)
    assert "over 3 s in phase load" in record.reason
    if kind != "knocked_out":
        assert f"in {kind}" in record.log  # where it was stuck


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_children_of_the_worker_end_with_it():
    record = run("leaves_a_child")
    assert record.status == "ok"
    deadline = time.monotonic() + 10
    while is_alive(record.environment["child"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(record.environment["child"])


def test_a_detached_child_holding_the_pipe_is_not_waited_for():
    record = run("leaves_a_detached_child", timeout_s=30)
    assert record.status == "ok"
    os.kill(record.environment["child"], signal.SIGKILL)


def test_the_watchdog_ends_what_no_limit_holds():
    record = run("fills_memory", tier_gb=0.25)
    assert (record.status, record.signal) == ("host-oom", "SIGKILL")
    assert "watchdog" in record.reason
    slack_bytes = supervisor.WATCHDOG_SLACK_BYTES
    assert 256 * MIB + slack_bytes < record.peak_bytes < 256 * MIB + slack_bytes + 512 * MIB


def test_a_fat_parent_does_not_inflate_its_childs_peak():
    ballast = b"x" * (400 * MIB)
    record = run("own_peak")
    assert record.status == "ok"
    assert record.peak_bytes < 200 * MIB, record.peak_source
    assert len(ballast) == 400 * MIB


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_supervisor_leaves_nobody_behind(number, exit_code):
    code = (
        "import signal, sys, tiersim.__main__ as m, tiersim.runner as r\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job would ignore it
        f"m.run_case = lambda case: r.run_case(case, worker=(sys.executable, {str(ZOO)!r}, 'hang'))\n"
        "sys.exit(m.main(['--tiers', '4', '--device', 'cpu']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (workers := psutil.Process(process.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(30) == exit_code
        assert not any(is_alive(worker.pid) for worker in workers)
    finally:
        process.kill()
        process.wait()


def test_the_worker_runs_our_code_and_knows_its_size(monkeypatch):
    environment = supervisor.worker_environment(
        resolve(Case(7.5, device="cpu")), {"PYTHONPATH": "/elsewhere", "MAX_CUDA_VRAM": "80"}
    )
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(Path(__file__).parents[2]), "/elsewhere"]
    assert environment["MAX_CUDA_VRAM"] == "7.5"
    assert "PYTORCH_ALLOC_CONF" not in environment
