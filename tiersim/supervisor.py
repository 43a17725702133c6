"""The supervisor: starts one worker process, watches it to its end, and survives whatever happens to it.

The worker leads its own session, so that it and everything it starts can be ended together; what left the
session is found by name (`lifeline`). While it runs the supervisor wakes every 20 ms to read events, to
look at the clocks and at the resident set: at that pace a process that fills memory as fast as it can
overshoots by about a megabyte.

    wall      `timeout_s` of the case for everything, however well it goes
    patience  per phase: how long without progress; a step, a tile or a token that ended is progress

A worker that is over either is asked where it is stuck (SIGUSR1 dumps every thread's stack), asked to
leave (SIGTERM), and removed (SIGKILL). Waiting ends with the leader, never with the pipe: an orphan that
inherited the pipe would hold it open.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import IO

from harness.accelerators import MAX_VRAM_VARIABLE
from harness.memory import GIB
from tiersim import lifeline
from tiersim.case import Plan
from tiersim.cgroup import Group
from tiersim.protocol import EVENTS_FD_VARIABLE, Event, EventReader, Job
from tiersim.record import Status
from tiersim.resident_set import ResidentSet
from tiersim.verdict import Outcome

WORKER = (sys.executable, "-P", "-X", "faulthandler", "-m", "tiersim.worker")
PACKAGES = str(Path(__file__).parents[1])  # the worker runs the code the supervisor was loaded from

POLL_S = 0.02
STACK_DUMP_S = 0.3
GRACE_S = 5.0  # a CUDA context takes seconds to tear down
LOG_BYTES = 4000
WATCHDOG_SLACK_BYTES = 64 * 2**20  # the worker's own reserve for reporting an out-of-memory
SPARE_BYTES = 2 * GIB  # of the machine's memory, for everybody else, whatever the cap is on

PATIENCE_S = {"load": 600.0, "compile": 900.0}  # on an accelerator
OTHER_PATIENCE_S = 120.0  # an import, a step, a tile
CPU_PATIENCE = 5  # times that on a CPU
HEART_S = 5.0  # without a beat: native code holds the interpreter, or the process is stopped


class Cancelled(Exception):
    """The run was cancelled."""


def patience_s(phase: str, device: str) -> float:
    """How long `phase` may go without progress."""
    seconds = PATIENCE_S.get(phase.partition("/")[0], OTHER_PATIENCE_S)
    return seconds * CPU_PATIENCE if device == "cpu" else seconds


def supervise(
    plan: Plan,
    worker: Sequence[str] = WORKER,
    *,
    environ: Mapping[str, str] = MappingProxyType({}),
    on_event: Callable[[Event], object] = lambda event: None,
    cancelled: threading.Event | None = None,
) -> Outcome:
    """Start a worker for `plan`, watch it to its end, leave nothing of it behind. POSIX only.

    `environ`: for the worker, over what it inherits. `on_event` is called with its events.
    Raises Cancelled, the worker removed, once `cancelled` is set.
    """
    started = time.monotonic()
    name = uuid.uuid4().hex
    group = Group.create(name, plan.cap_bytes) if plan.cap_kind == "host" else None
    read_fd, write_fd = os.pipe()
    try:
        with tempfile.TemporaryFile() as log:
            environment = worker_environment(plan, dict(os.environ) | dict(environ)) | {
                EVENTS_FD_VARIABLE: str(write_fd),
                lifeline.CASE_VARIABLE: name,
            }
            try:
                process = _start(plan, worker, environment, write_fd, log)
            finally:
                os.close(write_fd)
            os.set_blocking(read_fd, False)
            try:
                if group:
                    group.add(process.pid)
                most = _most_resident(plan, group)
                watch = _Watch(plan, process, EventReader(on_event), read_fd, cancelled, most)
                stopped = watch.until_the_end(deadline=started + plan.requested.timeout_s)
            finally:
                _remove(process, name)
            watch.read_events()
            if group and group.killed and not stopped:
                stopped = "host-oom", f"the kernel ended it at {plan.cap_bytes / GIB:.2f} GiB (control group)"
            return Outcome(
                exit_code=process.returncode,
                events=watch.reader.events,
                stopped=stopped,
                log=_tail(log),
                rss_peak_bytes=(group and group.peak_bytes) or watch.resident.peak_bytes,
                started_s=started,
                process_s=time.monotonic() - started,
            )
    finally:
        os.close(read_fd)
        if group:
            group.remove()


def _start(
    plan: Plan, worker: Sequence[str], environment: Mapping[str, str], write_fd: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*worker, Job.of(plan).encode()],
        stdin=subprocess.PIPE,  # never written to: its end is ours
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(write_fd,),
        env=environment,
        start_new_session=True,
    )


def _remove(process: subprocess.Popen[bytes], name: str) -> None:
    """End the worker, its group, and what left its group."""
    _signal_group(process, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()
    lifeline.sweep(name)


def worker_environment(plan: Plan, parent: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: our packages first, the simulated size, and the cap where torch reads it.

    The allocator's fraction is set here as well as by the worker, for processes the worker may start.
    """
    environment = dict(parent) | {
        "PYTHONPATH": os.pathsep.join(filter(None, (PACKAGES, parent.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0",
        "OMP_WAIT_POLICY": parent.get("OMP_WAIT_POLICY", "PASSIVE"),  # waiting threads must not take a core
        MAX_VRAM_VARIABLE: f"{plan.requested.tier_gb:g}",
    }
    if plan.cap_kind == "cuda" and _torch_reads_a_fraction():
        old = environment.pop("PYTORCH_CUDA_ALLOC_CONF", None)
        conf = environment.get("PYTORCH_ALLOC_CONF", old)
        fraction = f"per_process_memory_fraction:{min(1.0, plan.cap_bytes / plan.device_bytes):.6f}"
        environment["PYTORCH_ALLOC_CONF"] = ",".join(filter(None, (conf, fraction)))
    return environment


def _torch_reads_a_fraction() -> bool:
    """Older allocators refuse to start on a setting they do not know."""
    major, minor = version("torch").split(".")[:2]
    return (int(major), int(minor)) >= (2, 13)


def _most_resident(plan: Plan, group: Group | None) -> int:
    """Where the watchdog bites; it counts shared pages twice, and leaves alone what the kernel holds."""
    import psutil

    if plan.cap_kind == "host" and group is None:
        return plan.cap_bytes + WATCHDOG_SLACK_BYTES
    return psutil.virtual_memory().total - SPARE_BYTES


class _Watch:
    """Events, clocks and resident set of a running worker."""

    def __init__(
        self,
        plan: Plan,
        process: subprocess.Popen[bytes],
        reader: EventReader,
        read_fd: int,
        cancelled: threading.Event | None,
        most_resident_bytes: int,
    ):
        self._plan = plan
        self._process = process
        self._fd = read_fd
        self._cancelled = cancelled or threading.Event()
        self.reader = reader
        self.resident = ResidentSet(process.pid)
        self._limit_bytes = most_resident_bytes
        self._phase = "start"
        self._seen = 0  # events
        self._beat_s = self._progress_s = time.monotonic()

    def until_the_end(self, deadline: float) -> tuple[Status, str] | None:
        """Return when the worker has ended by itself, or why it had to be ended."""
        while not self._wait(POLL_S):
            if self._cancelled.is_set():
                raise Cancelled
            if self.resident.look() > self._limit_bytes:
                _signal_group(self._process, signal.SIGKILL)
                rss_gib, limit_gib = self.resident.peak_bytes / GIB, self._limit_bytes / GIB
                return "host-oom", f"watchdog: resident set {rss_gib:.2f} GiB, limit {limit_gib:.2f} GiB"
            if reason := self._over_time(deadline):
                self._ask_to_leave()
                return "timeout", reason
        return None

    def _over_time(self, deadline: float) -> str | None:
        now = time.monotonic()
        for event in self.reader.events[self._seen :]:
            self._beat_s = now
            if event["event"] != "hb":
                self._progress_s = now
                self._phase = event["name"] if event["event"] == "phase" else self._phase
        self._seen = len(self.reader.events)
        idle_s, silent_s = now - self._progress_s, now - self._beat_s
        if idle_s > patience_s(self._phase, self._plan.device):
            heart = f", no heartbeat for {silent_s:.0f} s" if silent_s > HEART_S else ""
            return f"no progress for {idle_s:.0f} s{heart}"
        if now > deadline:
            return f"over {self._plan.requested.timeout_s:g} s, the last progress {idle_s:.0f} s ago"
        return None

    def _wait(self, seconds: float) -> bool:
        """Read what comes within `seconds`; whether the worker has ended."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        if ready and not self.read_events():
            time.sleep(seconds)  # the worker closed its end: a closed pipe is always ready
        return self._process.poll() is not None

    def read_events(self) -> bool:
        """Take what is in the pipe without waiting; False at its end."""
        with suppress(BlockingIOError):
            while data := os.read(self._fd, 65536):
                self.reader.feed(data)
            return False
        return True

    def _ask_to_leave(self) -> None:
        """Stack dump, then SIGTERM; SIGKILL is the caller's, and comes in any case."""
        for number, grace_s in ((signal.SIGUSR1, STACK_DUMP_S), (signal.SIGTERM, GRACE_S)):
            _signal_group(self._process, number)
            until = time.monotonic() + grace_s
            while time.monotonic() < until:
                if self._wait(POLL_S):
                    return


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the worker's whole session; a group that is already gone is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - LOG_BYTES))
    return log.read().decode(errors="replace")
