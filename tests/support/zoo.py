"""Workers that end in every way there is: `zoo.py KIND JOB`, where a real worker is `worker.py JOB`."""

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from acestep import resolver
from acestep.setup import Setup
from harness.errors import MissingPrerequisite
from harness.memory import MemoryBudget
from tiersim import worker
from tiersim.protocol import EventWriter, Exit, Job
from tiersim.telemetry import Reporter

MIB = 2**20
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


def result(send, **more):
    made_up = {
        "generation_peak_bytes": 123 * MIB,
        "load_peak_bytes": 100 * MIB,
        "peak_source": "made up",
        "wall_s": 1.5,
        "stages_s": {"diffuse": 1.5},
        "environment": {"source": "zoo"},
    }
    send("result", **made_up | more)


def ok(send, job):
    print('{"event": "oom", "error": "noise", "message": "not an event"}')
    os.system("echo noise from below")
    result(send)


def segv(send, job):
    ctypes.string_at(0)


def segv_after_result(send, job):
    result(send)
    ctypes.string_at(0)


def abort(send, job):
    os.abort()


def bad_alloc(send, job):
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def no_threads(send, job):
    os.write(2, b"libgomp: Thread creation failed: Resource temporarily unavailable\n")
    os._exit(1)


def kill(send, job):
    os.kill(os.getpid(), signal.SIGKILL)


def exception(send, job):
    raise ValueError("a message\nin two lines")


def exit_1(send, job):
    os._exit(1)


def silent(send, job):
    pass


def half_line(send, job):
    os.write(send._fd, b'{"v": 1, "event": "result", "wall_s')


def not_an_event(send, job):
    os.write(send._fd, b'nonsense\n[1]\n{"v": 1}\n')
    result(send)


def many_events(send, job):
    for i in range(5000):
        send("progress", phase="load", i=i, n=5000)
    result(send)


def bad_events(send, job):
    """Lines of a file, then a result that must not suffer from them."""
    only_bad_events(send, job)
    result(send)


def only_bad_events(send, job):
    os.write(send._fd, Path(os.environ["ZOO_FILE"]).read_bytes())


def floods_with_nothing(send, job):
    while True:
        os.write(send._fd, b"x" * 65536)


def floods_with_lines(send, job):
    while True:
        os.write(send._fd, b"{}\n" * 20_000)


def floods_with_events(send, job):
    while True:
        send("progress", phase="load", i=1, n=None, used_bytes=1)


def floods_its_output(send, job):
    while True:
        os.write(1, b"x" * 65536)


def closes_the_pipe(send, job):
    result(send)
    os.close(send._fd)
    time.sleep(0.2)


def hang(send, job):
    time.sleep(600)


def hangs_in_python(send, job):
    while True:
        pass


def hangs_in_native_code(send, job):
    ctypes.CDLL(None).sleep(600)  # gives the interpreter away


def hangs_with_the_interpreter(send, job):
    ctypes.PyDLL(None).sleep(600)  # keeps it


def never_ends(send, job):
    for i in range(100_000):
        send("progress", phase="load", i=i, n=None)
        time.sleep(0.05)


def stops_itself(send, job):
    os.kill(os.getpid(), signal.SIGSTOP)


def ignores_term(send, job):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def knocked_out(send, job):
    """A call interrupted by the request for a stack dump, and then a normal exit."""
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
    time.sleep(600)


def leaves_a_child(send, job):
    result(send, environment={"child": subprocess.Popen(SLEEPER).pid})


def leaves_a_detached_child(send, job):
    child = subprocess.Popen(SLEEPER, start_new_session=True, pass_fds=[send._fd])
    result(send, environment={"child": child.pid})


def daemon(environment):
    """Out of the session, and no child of ours any more; its id is in a file."""
    leave = (
        "import os, sys\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        " os.setsid()\n"
        " os.execv('/bin/sleep', ['sleep', '600'])\n"
        "open(sys.argv[1], 'a').write(f'{pid}\\n')"
    )
    subprocess.run([sys.executable, "-c", leave, os.environ["ZOO_FILE"]], check=True, env=environment)


def hears_its_job(send, job):
    print(f"{len(job.plan.params.lyrics):,} characters of lyrics", flush=True)
    result(send)


def leaves_a_daemon(send, job):
    daemon(None)
    result(send)


def leaves_a_nameless_daemon(send, job):
    daemon({})
    result(send)


def child(**more):
    """One that is found by its id in a file."""
    process = subprocess.Popen(SLEEPER, **more)
    with Path(os.environ["ZOO_FILE"]).open("a") as file:
        file.write(f"{process.pid}\n")


def leaves_children_and_hangs(send, job):
    child()
    child(start_new_session=True)
    child(start_new_session=True, env={})
    time.sleep(600)


def stops_its_keeper(send, job):
    child(start_new_session=True)
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)


def kills_its_keeper(send, job):
    child(start_new_session=True)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def children_fill_memory(send, job):
    block = "import time; kept = b'x' * (100 * 2**20); time.sleep(600)"
    for _ in range(20):
        subprocess.Popen([sys.executable, "-c", block])
        time.sleep(0.2)
    time.sleep(600)


def own_peak(send, job):
    budget = MemoryBudget("cpu")
    result(send, generation_peak_bytes=budget.peak_bytes(), peak_source=budget.peak_source)


def fills_memory(send, job):
    """Faster than it is looked at, and without a limit of its own."""
    blocks = []
    while True:
        blocks.append(b"x" * MIB)
        time.sleep(0.0005)


def prerequisite(send, job):
    raise MissingPrerequisite("source: no folder 'x'")


def over_the_tier(send, job):
    result(send, generation_peak_bytes=job.cap_bytes + 1)


def measures_nothing(send, job):
    send("result", wall_s=1.5, stages_s={}, generation_peak_bytes=0, peak_source="made up")


def over_the_card(send, job):
    """The allocator is within its cap, and what the driver counts is not within the card."""
    spilled_bytes = int(os.environ["ZOO_SPILLED"])
    process = {"rss_bytes": 1, "rss_peak_bytes": 2, "spilled_bytes": spilled_bytes}
    process["driver_peak_bytes"] = int(os.environ["ZOO_DRIVER"])
    result(send, ended_peak_bytes=1, ended_process=process)


class NoRoom(Reporter):
    """The real worker; when `phase` begins, its card shrinks to `spare` bytes more than what is in use."""

    phase, spare = "", 0

    def begin(self, phase):
        super().begin(phase)
        if phase == self.phase:
            card = self.budget._device
            card.cap_bytes = self.budget.cap_bytes = card.used_bytes() + self.spare


def main(kind: str, job: Job) -> int:
    if kind.startswith("no_room_from:"):
        _, NoRoom.phase, spare = kind.split(":")
        NoRoom.spare = int(spare)
        worker.Reporter = NoRoom
        return worker.main(job, EventWriter())

    if kind == "decides_nothing":
        resolver.resolve = Setup.choose = None
        return worker.main(job, EventWriter())

    def run(job, reporter):
        reporter.send("hello", pid=os.getpid(), python="3", platform="zoo")
        reporter.begin("load")
        globals()[kind](reporter.send, job)
        return Exit.OK

    worker.run = run  # the rest of the worker, its error reporting above all, is the real one
    return worker.main(job, EventWriter())


if __name__ == "__main__":
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    sys.exit(main(sys.argv[1], Job.receive(sys.argv[2])))
