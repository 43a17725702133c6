"""Nothing that asv started for a benchmark outlives asv, even where asv is killed.

As a plugin of asv: its processes for benchmarks, whatever the environment, run this file in place of asv's
own script. As that script: the process ties itself to asv, then runs asv's. What a benchmark starts is tied
to the benchmark by a keeper (`harness/keeper.py`), which needs a pipe that asv gives to none.

What is temporary, of asv and of all that it starts, lies in one folder, which goes with asv; where asv was
killed, the next one removes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCRIPT, ASV = "ACESTEP_ASV_SCRIPT", "ACESTEP_ASV_PID"
PR_SET_PDEATHSIG = 1
PATIENCE_S = 0.5  # of a system that tells nobody of the end of a parent
FOLDERS = "asv-"  # and a random rest; the names of `harness.scratch` would be too long
LOCK = "of-acestep-bench"  # a file in each of them
LONGEST = 55  # of a path below which asv's socket, in one more folder, is within what a system allows


def setup() -> None:
    """Called by asv once it has imported its plugins."""
    from asv import runner

    if os.name == "posix":
        one_temporary_folder()
    os.environ |= {SCRIPT: runner.BENCHMARK_RUN_SCRIPT, ASV: str(os.getpid())}
    runner.BENCHMARK_RUN_SCRIPT = str(Path(__file__).resolve())


def one_temporary_folder() -> None:
    """Put what is temporary into a folder of its own, and remove those of runs that are gone."""
    import atexit
    import fcntl
    import getpass
    import shutil
    import tempfile
    from contextlib import suppress

    everyones = Path(tempfile.gettempdir())
    if len(str(everyones)) > LONGEST:
        return
    for left in everyones.glob(f"{FOLDERS}*/{LOCK}"):
        with suppress(OSError):
            if left.lstat().st_uid == os.getuid():
                with left.open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its run goes on
                    shutil.rmtree(left.parent)
    folder = tempfile.mkdtemp(prefix=FOLDERS)
    fcntl.flock(os.open(f"{folder}/new", os.O_CREAT | os.O_WRONLY), fcntl.LOCK_EX)  # as long as this process
    Path(folder, "new").rename(Path(folder, LOCK))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Compiled kernels are no leftovers: a cold start finds those of the run before.
    with suppress(KeyError, OSError):
        kernels = everyones / f"torchinductor_{getpass.getuser()}"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(kernels))
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def hold(parent: int) -> None:
    """End this process with `parent`, which started it."""
    import signal

    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it had ended before
            sys.exit(1)
        return
    import threading
    import time

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PATIENCE_S)
        os.killpg(0, signal.SIGKILL)  # a group of its own

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    import runpy

    script = os.environ.pop(SCRIPT)
    hold(int(os.environ.pop(ASV)))
    if not sys.flags.safe_path:
        del sys.path[0]  # this folder: none of its modules may shadow another
    sys.argv[0] = script
    runpy.run_path(script, run_name="__main__")
