"""Watch one worker process to its end, and outlive whatever happens to it.

The worker leads its own session, so that it and everything it starts can be ended together. While it
runs the supervisor wakes every 20 ms to read events, to look at the clock and, on cpu, at the resident
set: at that pace a process that fills memory as fast as it can overshoots by about a megabyte.

A worker that is over its time is asked where it is stuck (SIGUSR1 dumps every thread's stack), asked to
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
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO

from acestep.gpu_config import GIB, MAX_VRAM_VARIABLE
from tiersim.case import Plan
from tiersim.protocol import EVENTS_FD_VARIABLE, EventReader, Job
from tiersim.record import Status
from tiersim.verdict import Outcome

WORKER = (sys.executable, "-P", "-X", "faulthandler", "-m", "tiersim.worker")
PACKAGES = str(Path(__file__).parents[1])  # the worker runs the code the supervisor was loaded from

POLL_S = 0.02
STACK_DUMP_S = 0.3
GRACE_S = 5.0  # a CUDA context takes seconds to tear down
LOG_BYTES = 4000
WATCHDOG_SLACK_BYTES = 64 * 2**20  # the worker's own reserve for reporting an out-of-memory


def supervise(plan: Plan, worker: Sequence[str] = WORKER) -> Outcome:
    """Start a worker for `plan`, watch it to its end, leave nothing of it behind. POSIX only."""
    started = time.monotonic()
    read_fd, write_fd = os.pipe()
    try:
        with tempfile.TemporaryFile() as log:
            try:
                process = _start(plan, worker, write_fd, log)
            finally:
                os.close(write_fd)
            os.set_blocking(read_fd, False)
            try:
                watch = _Watch(plan, process, read_fd)
                stopped = watch.until_the_end(deadline=started + plan.case.timeout_s)
            finally:
                _signal_group(process, signal.SIGKILL)
                process.wait()
            watch.read_events()
            return Outcome(
                exit_code=process.returncode,
                events=watch.reader.events,
                stopped=stopped,
                log=_tail(log),
                rss_peak_bytes=watch.rss_peak_bytes,
                process_s=time.monotonic() - started,
            )
    finally:
        os.close(read_fd)


def _start(plan: Plan, worker: Sequence[str], write_fd: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*worker, Job.of(plan).encode()],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(write_fd,),
        env=worker_environment(plan, os.environ) | {EVENTS_FD_VARIABLE: str(write_fd)},
        start_new_session=True,
    )


def worker_environment(plan: Plan, parent: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment: our packages first, the simulated size, and the cap where torch reads it.

    The allocator's fraction is set here as well as by the worker, for processes the worker may start.
    """
    environment = dict(parent) | {
        "PYTHONPATH": os.pathsep.join(filter(None, (PACKAGES, parent.get("PYTHONPATH")))),
        "PYTHONHASHSEED": "0",
        "OMP_WAIT_POLICY": parent.get("OMP_WAIT_POLICY", "PASSIVE"),  # waiting threads must not take a core
        MAX_VRAM_VARIABLE: f"{plan.case.tier_gb:g}",
    }
    if plan.device.startswith("cuda") and _torch_reads_a_fraction():
        old = environment.pop("PYTORCH_CUDA_ALLOC_CONF", None)
        conf = environment.get("PYTORCH_ALLOC_CONF", old)
        fraction = f"per_process_memory_fraction:{min(1.0, plan.cap_bytes / plan.device_bytes):.6f}"
        environment["PYTORCH_ALLOC_CONF"] = ",".join(filter(None, (conf, fraction)))
    return environment


def _torch_reads_a_fraction() -> bool:
    """Older allocators refuse to start on a setting they do not know."""
    major, minor = version("torch").split(".")[:2]
    return (int(major), int(minor)) >= (2, 13)


class _Watch:
    """Events, clock and resident set of a running worker."""

    def __init__(self, plan: Plan, process: subprocess.Popen[bytes], read_fd: int):
        import psutil

        self._gone = psutil.Error
        self._process = process
        self._usage = psutil.Process(process.pid)
        self._fd = read_fd
        self._timeout_s = plan.case.timeout_s
        self._cap_bytes = plan.cap_bytes if plan.device == "cpu" else None
        self.reader = EventReader()
        self.rss_peak_bytes = 0

    def until_the_end(self, deadline: float) -> tuple[Status, str] | None:
        """Return when the worker has ended by itself, or why it had to be ended."""
        while not self._wait(POLL_S):
            if self._over_cap():
                _signal_group(self._process, signal.SIGKILL)
                cap_gib, rss_gib = (self._cap_bytes or 0) / GIB, self.rss_peak_bytes / GIB
                return "host-oom", f"watchdog: resident set {rss_gib:.2f} GiB, cap {cap_gib:.2f} GiB"
            if time.monotonic() > deadline:
                self._ask_to_leave()
                return "timeout", f"over {self._timeout_s:g} s"
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

    def _over_cap(self) -> bool:
        if self._cap_bytes is None:
            return False
        with suppress(self._gone):
            self.rss_peak_bytes = max(self.rss_peak_bytes, self._usage.memory_info().rss)
        return self.rss_peak_bytes > self._cap_bytes + WATCHDOG_SLACK_BYTES

    def _ask_to_leave(self) -> None:
        """Stack dump, then SIGTERM; SIGKILL is the caller's, and comes in any case."""
        for number, patience_s in ((signal.SIGUSR1, STACK_DUMP_S), (signal.SIGTERM, GRACE_S)):
            _signal_group(self._process, number)
            until = time.monotonic() + patience_s
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
