"""Nothing outlives who started it: every way a command may end times every way a child may hide."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from alive import eventually, is_alive
from places import ROOT

from harness import lifeline

linux = pytest.mark.skipif(sys.platform != "linux", reason="subreapers and PR_SET_PDEATHSIG are Linux's")

# Each is told in a file as soon as it is there: in the command's group, in a session of its own, without a
# parent, and with nothing that could name it.
HIDING = {
    "a child": "sleep 600 & echo $! >> {pids}",
    "a session of its own": "setsid sleep 600 & echo $! >> {pids}",
    "a daemon": "sh -c 'setsid sleep 600 & echo $! >> {pids}'",
    "an empty environment": "env -i setsid sleep 600 & echo $! >> {pids}",
    "a nameless daemon": "sh -c 'env -i setsid sleep 600 & echo $! >> {pids}'",
}
STARTER = """
import os, subprocess, sys, time
sys.path.insert(0, {root!r})
from harness import lifeline
process = subprocess.Popen(lifeline.kept({command!r}), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
process.stdout.readline()
stray = os.fork() if {stray!r} else os.getpid()
if stray == 0:
    time.sleep(600)  # and keeps the pipe open
print(stray, process.pid, flush=True)
process.wait()
"""


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()]


def script(file: Path, last: str) -> list[str]:
    """A command that leaves one of each behind, and writes its own id as well."""
    lines = [f"echo $$ >> {file}", *(line.format(pids=file) for line in HIDING.values())]
    return ["sh", "-c", "\n".join([*lines, last])]


@pytest.mark.parametrize(
    ("last", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -SEGV $$", -11), ("kill -KILL $$", -9), ("kill -TERM $$", -15)],
)
@linux
def test_a_command_that_ends_leaves_nobody(tmp_path, last, code):
    file = tmp_path / "pids"
    process = subprocess.Popen(lifeline.kept(script(file, last)), stdin=subprocess.PIPE)
    try:
        assert process.wait(60) == code
        assert len(pids(file)) == 1 + len(HIDING)
        assert not any(map(is_alive, pids(file)))
    finally:
        lifeline.end(process)


@linux
@pytest.mark.parametrize("stray", [False, True])
def test_a_starter_that_is_killed_leaves_nobody(tmp_path, stray):
    """Also where a fork of it holds the pipe open."""
    file = tmp_path / "pids"
    code = STARTER.format(root=str(ROOT), command=script(file, "echo; sleep 600"), stray=stray)
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout
    with starter:
        other, keeper = map(int, starter.stdout.readline().split())
        family = [keeper, *pids(file)]
        assert len(family) == 2 + len(HIDING) and all(map(is_alive, family))
        starter.kill()
        eventually(lambda: not any(map(is_alive, family)))
        assert is_alive(other) == stray
        if stray:
            os.kill(other, signal.SIGKILL)


@linux
def test_who_is_followed_ends_it_too(tmp_path):
    file = tmp_path / "pids"
    with subprocess.Popen(["sleep", "600"]) as other:
        command = lifeline.kept(script(file, "echo; sleep 600"), followed=[other.pid])
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with process:
            assert process.stdout and process.stdout.readline()
            other.kill()
            assert process.wait(60) == -signal.SIGKILL
            assert not any(map(is_alive, pids(file)))


@linux
def test_after_the_end_of_who_is_followed_nothing_begins(tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    command = lifeline.kept(["touch", str(tmp_path / "begun")], followed=[gone.pid])
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert not list(tmp_path.iterdir())


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_its_keeper_a_command_ends_and_what_has_a_name_is_found(tmp_path, monkeypatch, number):
    """The narrower promise: who left with an empty environment gets away. It is the control of the others."""
    monkeypatch.setattr(lifeline, "REMOVAL_S", 0.5)
    file = tmp_path / "pids"
    environment = os.environ | lifeline.named("a-name-of-its-own")
    process = subprocess.Popen(
        lifeline.kept(script(file, "echo; sleep 600")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout and process.stdout.readline()
    process.stdout.close()
    process.send_signal(number)
    lifeline.end(process)
    command, *hidden = pids(file)
    eventually(lambda: not is_alive(command))
    eventually(lambda: all(psutil.Process(pid).name() == "sleep" for pid in hidden))  # and no name is left
    named, nameless = hidden[:3], hidden[3:]
    lifeline.sweep("a-name-of-its-own")
    assert not any(map(is_alive, named)) and all(map(is_alive, nameless))
    for pid in nameless:
        os.kill(pid, signal.SIGKILL)


def test_a_signal_is_handed_on():
    command = ["sh", "-c", "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.01; done"]
    process = subprocess.Popen(
        lifeline.kept(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.terminate()
        assert (process.wait(60), process.stdout.read()) == (5, "asked\n")


def test_what_the_starter_has_blocked_for_itself_is_not_blocked_below():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        process = subprocess.Popen(lifeline.kept(["sleep", "600"]), stdin=subprocess.PIPE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    eventually(lambda: [p for p in psutil.Process(process.pid).children() if p.name() == "sleep"])
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    lifeline.end(process)


def test_a_command_that_cannot_be_run_is_said():
    process = subprocess.Popen(lifeline.kept(["/no/such"]), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    with process:
        message = process.stderr.read()
        assert process.wait(60) == 127 and message.startswith(b"/no/such cannot be run: [Errno 2]")


def test_a_command_joins_its_group_before_it_runs(tmp_path):
    group = tmp_path / "cgroup.procs"
    command = ["sh", "-c", f"test $$ = $(cat {group})"]
    process = subprocess.Popen(lifeline.kept(command, joined=group), stdin=subprocess.PIPE)
    assert process.wait(60) == 0
    lifeline.end(process)


def test_a_keeper_needs_nothing_of_ours():
    """It stands beside any version of our packages."""
    code = (
        "import runpy, sys; before = set(sys.modules)\n"
        f"runpy.run_path({str(lifeline.KEEPER)!r})\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('harness', 'psutil', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
