"""A control group for one worker: the kernel's own limit on everything it and its children use.

Only where this process may make some: cgroup v2, its own group writable, with the memory controller given
on to children (`Delegate=memory` in a systemd unit, or a container that owns its tree). Exceeding the
limit is the group's end by SIGKILL, and `memory.events` says so. `create` proves that before it claims
it, with a process that is told to take more than a small limit.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "tiersim-"
MIB = 2**20
PROBE_BYTES = 32 * MIB
GREEDY = f"import sys; sys.stdin.read(1); bytearray({4 * PROBE_BYTES})"
REMOVAL_S = 2.0  # a group can go only after its last process has


def own_group() -> Path | None:
    """The folder of this process's group, or None without cgroup v2."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, _, path = line.split(":", 2)
            folder = ROOT / path.lstrip("/")
            if number == "0" and (folder / "cgroup.procs").exists():
                return folder
    return None


def limit_bytes() -> int | None:
    """The limit a supervisor here has put on this process; None where it is in no group made for it."""
    folder = own_group()
    if folder is None or not folder.name.startswith(PREFIX):
        return None
    text = (folder / "memory.max").read_text().strip()
    return None if text == "max" else int(text)


class Group:
    """One group below ours. Its processes end with it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._probes_killed = 0

    @classmethod
    def create(cls, name: str, cap_bytes: int) -> Group | None:
        """A group that holds `cap_bytes`, proven; None where none can be had."""
        parent = own_group()
        if parent is None:
            return None
        group = cls(parent / f"{PREFIX}{name}")
        try:
            if "memory" not in (parent / "cgroup.subtree_control").read_text().split():
                return None
            group._folder.mkdir()
            (group._folder / "memory.oom.group").write_text("1")
            (group._folder / "memory.swap.max").write_text("0")
            if group._holds():
                group._limit(cap_bytes)
                group._probes_killed = group._events("oom_kill")
                return group
        except OSError:
            pass  # not ours to change: the caller has other means
        group.remove()
        return None

    def add(self, pid: int) -> None:
        """Move a process, and what it will start, into the group."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    @property
    def killed(self) -> bool:
        """Whether the kernel ended a process here for want of memory."""
        return self._events("oom_kill") > self._probes_killed

    @property
    def peak_bytes(self) -> int | None:
        """The most the group held, page cache included; None on kernels before 5.19."""
        try:
            return int((self._folder / "memory.peak").read_text())
        except OSError:
            return None

    def remove(self) -> None:
        """End what still runs here and take the group away."""
        with suppress(OSError):
            (self._folder / "cgroup.kill").write_text("1")
        until = time.monotonic() + REMOVAL_S
        while self._folder.exists() and time.monotonic() < until:
            with suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.01)

    def _limit(self, size: int) -> None:
        (self._folder / "memory.max").write_text(str(size))

    def _holds(self) -> bool:
        """Whether a process that takes more than a small limit is ended here."""
        self._limit(PROBE_BYTES)
        before = self._events("oom_kill")
        probe = subprocess.Popen([sys.executable, "-S", "-E", "-c", GREEDY], stdin=subprocess.PIPE)
        try:
            self.add(probe.pid)
            with suppress(BrokenPipeError):
                probe.communicate(b"x", timeout=30)
        finally:
            probe.kill()
            probe.wait()
        return probe.returncode == -signal.SIGKILL and self._events("oom_kill") > before

    def _events(self, name: str) -> int:
        lines = (self._folder / "memory.events").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
