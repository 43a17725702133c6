"""A zoo of workers: each way to end has one status, and none disturbs what comes next."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from types import MappingProxyType, SimpleNamespace

import msgspec
import psutil
import pytest
from alive import eventually, is_alive
from places import ROOT, ZOO

from harness import lifeline
from tiersim import Case, run_case, supervisor
from tiersim.case import resolve
from tiersim.journal import SAMPLES
from tiersim.protocol import Job
from tiersim.record import Record
from tiersim.run import run_plan

MIB = 2**20
linux = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")


def run(kind: str, on_event=lambda event: None, environ=MappingProxyType({}), **fields):
    case = Case(**{"tier_gb": 4, "device": "cpu", "cap": "host", "timeout_s": 60} | fields)
    return run_case(case, worker=(sys.executable, str(ZOO), kind), on_event=on_event, environ=environ)


class Clock(threading.local):
    """Stands still until a thread's worker runs: how long that takes depends on what else is going on."""

    ready_s: float | None = None

    def monotonic(self) -> float:
        return 0.0 if self.ready_s is None else time.monotonic() - self.ready_s

    def hear(self, event) -> None:
        if event["event"] == "phase" and self.ready_s is None:
            self.ready_s = time.monotonic()


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=time.sleep))
    monkeypatch.setattr(supervisor, "GRACE_S", 0.3)
    return clock


@pytest.fixture
def restless(monkeypatch, clock) -> Clock:
    """Four seconds without progress are too many; nothing is said of the wall."""
    monkeypatch.setattr(supervisor, "OTHER_PATIENCE_S", 4 / supervisor.CPU_PATIENCE)
    monkeypatch.setattr(supervisor, "PATIENCE_S", {})
    monkeypatch.setattr(supervisor, "HEART_S", 3.0)
    return clock


@linux
def test_a_job_may_be_longer_than_what_one_argument_may_be(tmp_path):
    """Lyrics of rare characters, each two escapes in JSON."""
    song = tmp_path / "song.json"
    song.write_text(json.dumps({"caption": "a song", "lyrics": 16_000 * "\U00020000", "duration": 10}))
    case = Case(24, device="cpu", cap="host", source="synthetic-tiny", choices=(("request", str(song)),))
    message = Job.of(resolve(case)).encode()
    with pytest.raises(OSError, match="Argument list too long"):  # the control
        subprocess.run([sys.executable, "-c", "", message])
    record = run("hears_its_job", **{field.name: getattr(case, field.name) for field in fields(case)})
    assert record.status == "ok" and "16,000 characters of lyrics" in record.log


@pytest.mark.parametrize(
    ("kind", "status", "exit_code", "words"),
    [
        ("ok", "ok", 0, ""),
        ("segv", "crash", -11, "SIGSEGV in phase load"),
        ("segv_after_result", "crash", -11, "SIGSEGV"),
        ("abort", "crash", -6, "SIGABRT"),
        ("bad_alloc", "host-oom", -6, "host memory ran out"),
        ("no_threads", "host-oom", 1, "host memory ran out"),
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


@pytest.mark.parametrize(
    ("driver_gib", "spilled_mib", "status", "reason"),
    [
        (4, 0, "ok", ""),
        (4.25, 0, "oom", "the driver counts 4.25 GiB, over 4 GB"),
        (4, 512, "oom", "0.50 GiB of it spilled into the host's memory"),
    ],
)
def test_a_process_larger_than_the_card_does_not_pass(driver_gib, spilled_mib, status, reason):
    """Though its allocator kept within the cap: the context may be larger than what was set aside for it."""
    counted = {"ZOO_DRIVER": f"{driver_gib * 2**30:.0f}", "ZOO_SPILLED": f"{spilled_mib * MIB}"}
    plan = replace(resolve(Case(4, device="cpu", cap="host", timeout_s=60)), cap_kind="cuda")
    record = run_plan(plan, worker=(sys.executable, str(ZOO), "over_the_card"), environ=counted)
    assert (record.status, record.reason, record.exit_code) == (status, reason, 0)
    assert record.peak_bytes == 123 * MIB and record.process == record.stage_processes["load"]
    assert record.process.driver_peak_bytes == driver_gib * 2**30


def test_a_success_carries_its_figures():
    record = run("ok")
    assert (record.reason, record.signal) == ("", None)
    assert (record.peak_bytes, record.load_peak_bytes) == (123 * MIB, 100 * MIB)
    assert (record.wall_s, record.stages_s) == (1.5, {"diffuse": 1.5})
    assert record.environment == {"source": "zoo", "python": "3", "platform": "zoo"}
    assert "noise from below" in record.log


def test_a_peak_of_nothing_is_a_peak():
    """Nothing measured is None."""
    record = run("measures_nothing", cap="virtual")
    assert (record.status, record.generation_peak_bytes, record.load_peak_bytes) == ("ok", 0, None)
    assert record.peak_bytes == resolve(record.requested).context_bytes


def test_a_crash_leaves_its_stack_in_the_log():
    record = run("segv")
    assert record.signal == "SIGSEGV"
    assert "Segmentation fault" in record.log and "string_at" in record.log


@pytest.mark.parametrize(
    ("kind", "signal_name"), [("hang", "SIGTERM"), ("ignores_term", "SIGKILL"), ("knocked_out", None)]
)
def test_a_worker_over_its_time_is_ended(clock, kind, signal_name):
    record = run(kind, clock.hear, timeout_s=2)
    assert (record.status, record.signal) == ("timeout", signal_name)
    assert "over 2 s, the last progress" in record.reason and "in phase load" in record.reason
    if kind != "knocked_out":
        assert f"in {kind}" in record.log  # where it was stuck


def test_children_of_the_worker_end_with_it():
    record = run("leaves_a_child")
    assert record.status == "ok"
    eventually(lambda: not is_alive(record.environment["child"]))


def test_a_detached_child_holding_the_pipe_is_not_waited_for_and_does_not_survive():
    record = run("leaves_a_detached_child", timeout_s=60)
    assert record.status == "ok"
    assert not is_alive(record.environment["child"])


@linux
@pytest.mark.parametrize("kind", ["leaves_a_daemon", "leaves_a_nameless_daemon"])
def test_a_daemon_of_the_worker_does_not_survive(tmp_path, kind):
    pids = tmp_path / "pids"
    assert run(kind, environ={"ZOO_FILE": str(pids)}).status == "ok"
    assert not is_alive(int(pids.read_text()))


@linux
@pytest.mark.parametrize("kind", ["kills_its_keeper", "stops_its_keeper"])
def test_who_turns_on_its_keeper_ends_and_what_it_left_is_found_by_name(tmp_path, clock, monkeypatch, kind):
    monkeypatch.setattr(lifeline, "REMOVAL_S", 0.5)
    pids = tmp_path / "pids"
    record = run(kind, clock.hear, timeout_s=1, environ={"ZOO_FILE": str(pids)})
    assert record.status in ("crash", "timeout") and record.signal == "SIGKILL"
    eventually(lambda: not any(map(is_alive, map(int, pids.read_text().split()))))


HANGS = {
    "hang": True,  # whether its heart goes on
    "hangs_in_python": True,
    "hangs_in_native_code": True,
    "hangs_with_the_interpreter": False,
    "stops_itself": False,
}


def test_a_hang_is_ended_and_shown_and_progress_is_no_hang(restless):
    """Side by side, since each takes its time. With progress only the clock of the whole case runs out."""
    walls_s = {**dict.fromkeys(HANGS, 250), "never_ends": 6}
    with ThreadPoolExecutor(len(walls_s)) as threads:
        records = threads.map(lambda kind: run(kind, restless.hear, timeout_s=walls_s[kind]), walls_s)
        ended = dict(zip(walls_s, records, strict=True))
    assert {record.status for record in ended.values()} == {"timeout"}
    for kind, heart in HANGS.items():
        reason = ended[kind].reason
        assert "no progress for" in reason and "in phase load" in reason, kind
        assert ("no heartbeat" in reason) != heart, kind
        assert f"in {kind}" in ended[kind].log or kind == "stops_itself"
    assert ended["stops_itself"].signal == "SIGKILL"
    assert "over 6 s, the last progress" in ended["never_ends"].reason


@pytest.mark.parametrize("of", ["nothing", "lines", "events", "output"])
def test_no_flood_delays_the_clocks_or_fills_the_memory(clock, of):
    kind = "floods_its_output" if of == "output" else f"floods_with_{of}"
    record = run(kind, clock.hear, timeout_s=1)
    assert (record.status, record.signal) == ("timeout", "SIGTERM"), record.reason
    assert "over 1 s" in record.reason
    assert len(record.log) <= supervisor.LOG_BYTES and len(record.timeline) <= SAMPLES
    refused = [
        note for note in record.notes if note.endswith("of the lines that the worker sent were no events")
    ]
    assert bool(refused) == (of in ("nothing", "lines"))


HOSTILE = (
    b'{"v": 1, "event": "phase"}',
    b'{"v": 1, "event": "phase", "name": 7, "monotonic_s": 1}',
    b'{"v": 1, "event": "result"}',
    b'{"v": 1, "event": "result", "wall_s": 1e999, "generation_peak_bytes": NaN, "monotonic_s": 2}',
    b'{"v": 1, "event": "oom", "requested_bytes": "\\ud800"}',
    b'{"v": 1, "event": "hb", "used_bytes": 1%s, "monotonic_s": 1}' % (b"0" * 5000),
    b'{"v": 1, "event": "cap", "bytes": "many"}',
    b"[" * 100_000,
)


@pytest.mark.parametrize(("kind", "status"), [("bad_events", "ok"), ("only_bad_events", "error")])
def test_what_is_no_event_is_counted_and_does_no_harm(tmp_path, kind, status):
    """The rest of the run counts; without a result that is one, there is none."""
    file = tmp_path / "events"
    file.write_bytes(b"\n".join(HOSTILE) + b"\n")
    shown = []
    record = run(kind, shown.append, environ={"ZOO_FILE": str(file)})
    assert (record.status, record.phase_reached) == (status, "load")
    assert record.notes == (f"{len(HOSTILE)} of the lines that the worker sent were no events",)
    assert msgspec.json.decode(msgspec.json.encode(record), type=Record) == record
    assert {event["event"] for event in shown} <= {"hello", "phase", "hb", "result"}


def test_patience_depends_on_phase_and_device():
    patience_s = supervisor.patience_s
    assert patience_s("load/dit", "cuda") == 600 > patience_s("diffuse", "cuda") == 120
    assert patience_s("vae_decode", "cpu") == 600


@pytest.fixture
def ungrouped(monkeypatch):
    """No control group, also where one could be had."""
    monkeypatch.setattr(supervisor.Group, "create", lambda *_: None)


def test_the_watchdog_ends_what_no_limit_holds(ungrouped):
    record = run("fills_memory", tier_gb=0.25)
    assert (record.status, record.signal) == ("host-oom", "SIGKILL")
    assert "watchdog" in record.reason
    slack_bytes = supervisor.WATCHDOG_SLACK_BYTES
    assert 256 * MIB + slack_bytes < record.peak_bytes < 256 * MIB + slack_bytes + 512 * MIB


def test_the_watchdog_counts_children(ungrouped):
    record = run("children_fill_memory", tier_gb=0.5, timeout_s=250)
    assert (record.status, record.signal) == ("host-oom", "SIGKILL")
    assert record.peak_bytes > 512 * MIB


def test_without_a_host_cap_the_machine_keeps_its_spare_memory(monkeypatch):
    total = psutil.virtual_memory().total
    monkeypatch.setattr(supervisor, "SPARE_BYTES", total - 200 * MIB)
    record = run("fills_memory", cap="virtual")
    assert record.status == "host-oom"
    assert "watchdog" in record.reason


def test_a_fat_parent_does_not_inflate_its_childs_peak():
    ballast = b"x" * (400 * MIB)
    record = run("own_peak")
    assert record.status == "ok"
    assert record.peak_bytes < 200 * MIB, record.peak_source
    assert len(ballast) == 400 * MIB


def test_the_worker_runs_our_code_and_knows_its_size(monkeypatch):
    environment = supervisor.worker_environment(
        resolve(Case(7.5, device="cpu")), {"PYTHONPATH": "/elsewhere", "MAX_CUDA_VRAM": "80"}
    )
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]
    assert environment["MAX_CUDA_VRAM"] == "7.5"
    assert "PYTORCH_ALLOC_CONF" not in environment
