"""Process lifetime: no worker outlives its supervisor, and nothing a worker started outlives the worker.

Down: the worker's standard input is a pipe that nobody writes to, and ends with the supervisor. On Linux
the kernel then kills the worker's process group, without a turn of an interpreter that native code may hold;
should a stray fork of the supervisor keep the pipe open, PR_SET_PDEATHSIG still ends the worker. Elsewhere a
thread waits for the end.

Up: whatever a worker starts inherits TIERSIM_CASE, a name no other case has. A process that left the
worker's group is found by it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
from contextlib import suppress

CASE_VARIABLE = "TIERSIM_CASE"
PR_SET_PDEATHSIG = 1
ROUNDS = 5  # a process may start another one while it is being found


def hold() -> None:
    """Tie this process to the one that started it, which keeps the other end of standard input."""
    if sys.platform != "linux":
        threading.Thread(target=_until_the_end, daemon=True).start()
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _until_the_end() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def sweep(name: str) -> list[int]:
    """Kill every process whose TIERSIM_CASE is `name`; returns their ids."""
    import psutil

    killed: list[int] = []
    for _ in range(ROUNDS):
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(CASE_VARIABLE) == name:
                    process.kill()
                    processes.append(process)
        if not processes:
            break
        killed += [process.pid for process in processes]
        psutil.wait_procs(processes, timeout=1)
    return killed
