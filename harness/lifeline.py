"""Process lifetime: nothing a process starts through `kept` outlives it, however either of them ends.

    process = subprocess.Popen(lifeline.kept(command), stdin=subprocess.PIPE)
    ...
    lifeline.end(process)

Between the two runs a keeper (`harness/keeper.py`), which reads from the pipe and ends with it. What a keeper
cannot find, because there is no Linux here or because it was killed itself, is found by its environment:
`named` gives a name that every descendant inherits, and `sweep` kills whoever has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")
NAME_VARIABLE = "HARNESS_KEPT_AS"
REMOVAL_S = 10.0  # twice what a keeper takes at most
ROUNDS = 5  # a process may start another one while it is being found


def kept(command: Sequence[str], *, followed: Iterable[int] = (), joined: Path | None = None) -> list[str]:
    """The command line that runs `command` in a session of its own, under a keeper, and ends as it does.

    Standard input has to be a pipe, whose end ends it. So does the end of this process, and of `followed`.
    `joined`: the `cgroup.procs` that the command's id is written to before it runs.
    """
    pids = ",".join(map(str, (os.getpid(), *followed)))
    return [sys.executable, "-I", "-S", str(KEEPER), pids, str(joined or ""), *command]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what runs under a keeper, and wait until it is gone. What has ended already is no error."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(REMOVAL_S)
    except subprocess.TimeoutExpired:  # the keeper was stopped
        process.kill()
        process.wait()


def named(name: str) -> dict[str, str]:
    """The environment that names what is started with it, and what that starts."""
    return {NAME_VARIABLE: name}


def sweep(name: str) -> list[int]:
    """Kill every process that has `name`; returns their ids."""
    import psutil

    killed: list[int] = []
    for _ in range(ROUNDS):
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(NAME_VARIABLE) == name:
                    process.kill()
                    processes.append(process)
        if not processes:
            break
        killed += [process.pid for process in processes]
        psutil.wait_procs(processes, timeout=1)
    return killed
