"""Runs a script whose process group ends with the process that started it, even where that one is killed.

    python -P benchmarks/worker/lifeline.py SCRIPT [ARGUMENT ...]

Standard input is a pipe that nobody writes to, and ends with who holds its other end. On Linux the kernel
then kills the group, without a turn of an interpreter that native code may hold; elsewhere a thread does.
The script may be that of any commit: it needs to know nothing of this. What leaves the group is not reached;
of what a worker starts that is the capped processes, which see to it themselves.
"""

from __future__ import annotations

import os
import runpy
import select
import signal
import sys
import threading


def hold() -> None:
    """Tie this process's group to whoever holds the other end of standard input."""
    if sys.platform != "linux":
        threading.Thread(target=_until_the_end, daemon=True).start()
        return
    import fcntl

    fcntl.fcntl(0, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(0, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it had ended before
        os.killpg(0, signal.SIGKILL)


def _until_the_end() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    hold()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
