"""A control group for one worker: the kernel's own limit on everything it and its children use.

    systemd-run --user --scope -p Delegate=memory python -m tiersim --run --cap host

Only where this process may make some: cgroup v2, and a group of its own that it may write, with memory
delegated to it (as above, or a container that owns its tree). Exceeding the limit is the group's end by
SIGKILL, and `memory.events` says so. `create` proves that before it claims it, with a process that is told
to take more than a small limit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "tiersim-"
ASIDE = "supervisor"
MIB = 2**20
PROBE_BYTES = 32 * MIB
PROBE_S = 30.0
GREEDY = f"import sys; sys.stdin.read(1); bytearray({4 * PROBE_BYTES})"
REMOVAL_S = 2.0  # a group can go only after its last process has

_stepping_aside = threading.Lock()


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


def nursery() -> Path | None:
    """The folder to make groups in; None where there is none. Raises OSError for one that is not ours.

    A group that hands a controller on has no processes of its own, the root of all groups excepted. So a
    process that is alone in its group moves to one below, and makes others beside that.
    """
    with _stepping_aside:
        own = own_group()
        if own is None:
            return None
        folder = own.parent if own.name == ASIDE else own
        if "memory" in _listed(folder / "cgroup.subtree_control"):
            return folder
        alone = _listed(folder / "cgroup.procs") == [str(os.getpid())]
        if not alone or "memory" not in _listed(folder / "cgroup.controllers"):
            return None
        (folder / ASIDE).mkdir(exist_ok=True)
        (folder / ASIDE / "cgroup.procs").write_text(str(os.getpid()))
        (folder / "cgroup.subtree_control").write_text("+memory")
        return folder


def _listed(file: Path) -> list[str]:
    return file.read_text().split()


class Group:
    """One group for one worker. Its processes end with it."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._probes_killed = 0

    @classmethod
    def create(cls, name: str, cap_bytes: int) -> Group | None:
        """A group that holds `cap_bytes`, proven; None where none can be had."""
        try:
            parent = nursery()
        except OSError:
            return None  # not ours to change: the caller has other means
        if parent is None:
            return None
        group = cls(parent / f"{PREFIX}{name}")
        try:
            group._folder.mkdir()
            (group._folder / "memory.oom.group").write_text("1")
            (group._folder / "memory.swap.max").write_text("0")
            if group._holds():
                group._limit(cap_bytes)
                group._probes_killed = group._events("oom_kill")
                return group
        except (OSError, subprocess.TimeoutExpired):  # a probe that hangs was not ended
            pass
        group.remove()
        return None

    def add(self, pid: int) -> None:
        """Move a process, and what it will start, into the group."""
        self.procs.write_text(str(pid))

    @property
    def procs(self) -> Path:
        """Where the id of a process is written to move it."""
        return self._folder / "cgroup.procs"

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
                probe.communicate(b"x", timeout=PROBE_S)
        finally:
            probe.kill()
            probe.wait()
        return probe.returncode == -signal.SIGKILL and self._events("oom_kill") > before

    def _events(self, name: str) -> int:
        lines = (self._folder / "memory.events").read_text().splitlines()
        return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
