"""A keeper: the process between a command and whoever starts it, which leaves nothing of the command behind.

    python -I -S keeper.py FOLLOWED JOINED COMMAND...      with a pipe as standard input

The command runs in a session of its own. Once it has ended, the pipe is closed at its other end, or one of
the processes FOLLOWED (ids, with commas between) is gone, every process that the command has started is
killed. The keeper then ends as the command did: with its exit code, or by its signal. Signals that are sent
to the keeper go to the command's process group.

On Linux no descendant gets away, whatever its session and its environment: one whose parent has ended
becomes a child of the keeper, the nearest subreaper above it. Elsewhere only the process group is ended.
Whoever kills the keeper ends the command as well on Linux (PR_SET_PDEATHSIG), but not what it has started.

JOINED, where it is not empty, is a file that the command's id is written to before the command runs: the
`cgroup.procs` of its control group. This is a program of the standard library alone: it starts at once, and
beside any version of our packages.
"""

# pathlib would take half of the time to start
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
HANDED_ON = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
CHANGED = (*HANDED_ON, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)  # by us, or by Python as it starts
REMOVAL_S, PAUSE_S = 5.0, 0.002  # what sleeps in the kernel is not waited for
LINUX = sys.platform == "linux"


class Keeper:
    """`command` and its descendants."""

    def __init__(self, joined: str, command: tuple[str, ...]):
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        for number in (*HANDED_ON, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._status: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            _become(command, joined)

    def follow(self, handles: list[int]) -> None:
        """Return once the command has ended, or something can be read from one of `handles`."""
        while self._status is None:
            ready, _, _ = select.select([*handles, self._woken], [], [])
            if ready != [self._woken]:
                return
            for number in os.read(self._woken, 4096):
                if number in HANDED_ON:
                    self._signal(number)
            self._reap()

    def remove(self) -> int:
        """Kill every descendant; returns the command's exit code, or minus its signal."""
        until = time.monotonic() + REMOVAL_S
        self._signal(signal.SIGKILL)
        while self._reap() and time.monotonic() < until:
            for pid in _descendants():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(PAUSE_S)
        return -signal.SIGKILL if self._status is None else self._status

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def _reap(self) -> bool:
        """Take leave of children that have ended; whether there are others."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return False


def main(followed: str, joined: str, *command: str) -> int:
    """Run `command` to its end and remove what it leaves; returns its exit code, or minus its signal."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what the starter had blocked for itself
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        handles = _handles(map(int, followed.split(",")))
    except ProcessLookupError:
        return -signal.SIGKILL  # already gone
    keeper = Keeper(joined, command)
    keeper.follow(handles)
    return keeper.remove()


def _handles(followed: Iterable[int]) -> list[int]:
    """Standard input, and what can be read once a process of `followed` is gone, where there is such a thing.

    Raises ProcessLookupError for one that is gone already.
    """
    handles = [0]
    try:
        handles += map(os.pidfd_open, followed)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        pass  # the end of the pipe has to do
    return handles


def _become(command: tuple[str, ...], joined: str) -> None:
    """Turn this process into `command`; never returns."""
    try:
        os.setsid()
        if LINUX:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.set_wakeup_fd(-1)
        for number in CHANGED:
            signal.signal(number, signal.SIG_DFL)
        if joined:
            with open(joined, "w") as file:
                file.write(str(os.getpid()))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def _descendants() -> Iterator[int]:
    """Ids of every process below this one, from the kernel's list; none where there is no such list."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc") if LINUX else ()):
        with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
            parent = int(file.read().rpartition(b")")[2].split()[1])
            children.setdefault(parent, []).append(int(name))
    pids = children.get(os.getpid(), [])
    for pid in pids:
        pids += children.get(pid, ())  # which lengthens the list that is walked
    return iter(pids)


def _end_as(code: int) -> None:
    """End this process with the exit code, or by the signal where it is negative."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command has left its own
        with suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)  # not SIGKILL's
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    _end_as(main(*sys.argv[1:]))
