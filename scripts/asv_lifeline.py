"""Nothing that asv started for a benchmark outlives asv, even where asv is killed.

As a plugin of asv: its processes for benchmarks, whatever the environment, run this file in place of asv's
own script. As that script: the process ties itself to asv, then runs asv's. What a benchmark starts is tied
to the benchmark (`benchmarks/worker/lifeline.py`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SCRIPT, ASV = "ACESTEP_ASV_SCRIPT", "ACESTEP_ASV_PID"
PR_SET_PDEATHSIG = 1
PATIENCE_S = 0.5  # of a system that tells nobody of the end of a parent


def setup() -> None:
    """Called by asv once it has imported its plugins."""
    from asv import runner

    os.environ |= {SCRIPT: runner.BENCHMARK_RUN_SCRIPT, ASV: str(os.getpid())}
    runner.BENCHMARK_RUN_SCRIPT = str(Path(__file__).resolve())


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
