"""The supervisor: starts one worker process, watches it to its end, and survives whatever happens to it.

The worker runs under a keeper (`harness.lifeline`), which ends it and everything it has started together, and
does not need the supervisor for it. While it runs the supervisor wakes every 20 ms to look at the clocks, at
the resident set and at what has come: at that pace a process that fills memory as fast as it can
overshoots by about a megabyte. A turn reads little and keeps less, so that no flood delays the clocks.

    wall      `timeout_s` of the case for everything, however well it goes
    patience  per phase: how long without progress; a step, a tile or a token that ended is progress

A worker that is over either is asked where it is stuck (SIGUSR1 dumps every thread's stack), asked to
leave (SIGTERM), and removed (SIGKILL). Waiting ends with the worker, never with a pipe: who inherited one
would hold it open.
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

from harness import lifeline
from harness.accelerators import MAX_VRAM_VARIABLE
from harness.memory import GIB
from tiersim.case import Plan
from tiersim.cgroup import Group
from tiersim.events import Event
from tiersim.journal import Journal
from tiersim.protocol import EVENTS_FD_VARIABLE, Job
from tiersim.record import Status
from tiersim.resident_set import ResidentSet
from tiersim.verdict import Outcome

WORKER = (sys.executable, "-P", "-X", "faulthandler", "-m", "tiersim.worker")
PACKAGES = str(Path(__file__).parents[1])  # the worker runs the code the supervisor was loaded from

POLL_S = 0.02
STACK_DUMP_S = 0.3
GRACE_S = 5.0  # a CUDA context takes seconds to tear down
LOG_BYTES = 4000
TURN_BYTES = 2**16  # read of a pipe in one turn
PIPE_BYTES = 2**20  # the most a pipe holds, where nobody has raised it
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
    started_s = time.monotonic()
    name = uuid.uuid4().hex
    group = Group.create(name, plan.cap_bytes) if plan.cap_kind == "host" else None
    journal, log = Journal(on_event, started_s), _Tail()
    try:
        with _Pipe(journal.feed) as events, _Pipe(log.feed) as output:
            environment = worker_environment(plan, dict(os.environ) | dict(environ)) | {
                EVENTS_FD_VARIABLE: str(events.write_end.fileno()),
                **lifeline.named(name),
            }
            process = _start(plan, worker, environment, events, output, group)
            try:
                watch = _Watch(
                    plan, process, journal, (events, output), cancelled, _most_resident(plan, group)
                )
                stopped = watch.until_the_end(deadline=started_s + plan.requested.timeout_s)
            finally:
                lifeline.end(process)
                lifeline.sweep(name)
            events.read(PIPE_BYTES)
            output.read(PIPE_BYTES)
            if group and group.killed and not stopped:
                stopped = "host-oom", f"the kernel ended it at {plan.cap_bytes / GIB:.2f} GiB (control group)"
            return Outcome(
                exit_code=process.returncode,
                journal=journal,
                stopped=stopped,
                log=log.text,
                rss_peak_bytes=(group and group.peak_bytes) or watch.resident.peak_bytes,
                process_s=time.monotonic() - started_s,
            )
    finally:
        if group:
            group.remove()


def _start(
    plan: Plan,
    worker: Sequence[str],
    environment: Mapping[str, str],
    events: _Pipe,
    output: _Pipe,
    group: Group | None,
) -> subprocess.Popen[bytes]:
    """The keeper of a new worker, whose ends of the pipes are its own now."""
    try:
        with tempfile.TemporaryFile() as job:
            job.write(Job.of(plan).encode().encode())
            job.seek(0)
            command = [*worker, str(job.fileno())]
            return subprocess.Popen(
                lifeline.kept(command, joined=group and group.procs),
                stdin=subprocess.PIPE,
                stdout=output.write_end,
                stderr=subprocess.STDOUT,
                pass_fds=(events.write_end.fileno(), job.fileno()),
                env=environment,
                start_new_session=True,
            )
    finally:
        events.write_end.close()
        output.write_end.close()


class _Pipe:
    """A pipe from a worker, read without waiting. `feed` takes what comes."""

    def __init__(self, feed: Callable[[bytes], None]):
        self.read_fd, write_fd = os.pipe()
        self.write_end = os.fdopen(write_fd, "wb", buffering=0)
        os.set_blocking(self.read_fd, False)
        self.open = True
        self._feed = feed

    def read(self, most_bytes: int) -> None:
        """Take at most about that much of what is there; at the end of the pipe it is no longer `open`."""
        with suppress(BlockingIOError):
            while self.open and most_bytes > 0:
                data = os.read(self.read_fd, TURN_BYTES)
                most_bytes -= len(data)
                self.open = bool(data)
                self._feed(data)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *error: object) -> None:
        self.write_end.close()
        os.close(self.read_fd)


class _Tail:
    """The end of a worker's output."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> None:
        self._data = (self._data + data)[-LOG_BYTES:]

    @property
    def text(self) -> str:
        return self._data.decode(errors="replace")


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
    """Clocks, resident set and pipes of a running worker."""

    def __init__(
        self,
        plan: Plan,
        process: subprocess.Popen[bytes],
        journal: Journal,
        pipes: Sequence[_Pipe],
        cancelled: threading.Event | None,
        most_resident_bytes: int,
    ):
        self._plan = plan
        self._process = process
        self._journal = journal
        self._pipes = pipes
        self._cancelled = cancelled or threading.Event()
        self.resident = ResidentSet(process.pid)
        self._limit_bytes = most_resident_bytes
        self._events = self._steps = 0
        self._beat_s = self._step_s = time.monotonic()

    def until_the_end(self, deadline: float) -> tuple[Status, str] | None:
        """Return when the worker has ended by itself, or why it has to be ended."""
        while not self._turn():
            if self._cancelled.is_set():
                raise Cancelled
            if self.resident.look() > self._limit_bytes:
                rss_gib, limit_gib = self.resident.peak_bytes / GIB, self._limit_bytes / GIB
                return "host-oom", f"watchdog: resident set {rss_gib:.2f} GiB, limit {limit_gib:.2f} GiB"
            if reason := self._over_time(deadline):
                self._ask_to_leave()
                return "timeout", reason
        return None

    def _over_time(self, deadline: float) -> str | None:
        now, journal = time.monotonic(), self._journal
        if journal.events > self._events:
            self._events, self._beat_s = journal.events, now
        if journal.steps > self._steps:
            self._steps, self._step_s = journal.steps, now
        idle_s, silent_s = now - self._step_s, now - self._beat_s
        if idle_s > patience_s(journal.phase or "start", self._plan.device):
            heart = f", no heartbeat for {silent_s:.0f} s" if silent_s > HEART_S else ""
            return f"no progress for {idle_s:.0f} s{heart}"
        if now > deadline:
            return f"over {self._plan.requested.timeout_s:g} s, the last progress {idle_s:.0f} s ago"
        return None

    def _turn(self) -> bool:
        """Wait for a moment, or for something to read; whether the worker has ended."""
        pipes = {pipe.read_fd: pipe for pipe in self._pipes if pipe.open}
        for ready in select.select(pipes, [], [], POLL_S)[0]:
            pipes[ready].read(TURN_BYTES)
        return self._process.poll() is not None

    def _ask_to_leave(self) -> None:
        """Stack dump, then SIGTERM; SIGKILL is the caller's, and comes in any case."""
        for number, grace_s in ((signal.SIGUSR1, STACK_DUMP_S), (signal.SIGTERM, GRACE_S)):
            self._process.send_signal(number)  # the keeper hands it on
            until = time.monotonic() + grace_s
            while time.monotonic() < until:
                if self._turn():
                    return
