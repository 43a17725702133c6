"""Cases over devices: who runs where, what an interrupt leaves, and the same over a cluster."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from fake_nvml import FakeGPU, FakeNVML
from places import ZOO
from tier_records import bare_record

from harness.errors import MissingPrerequisite, UsageError
from tiersim import Case, pool
from tiersim.case import Plan, resolve
from tiersim.pool import Slots, run_plans
from tiersim.record import Record
from tiersim.run import run_plan

CASES = [Case(size, device="cpu", source="synthetic-tiny") for size in (4, 6, 8, 12)]
PLANS = [resolve(case) for case in CASES]
GIB = 2**30


class Machine:
    """Runs cases in no time, and knows which ran beside which, and on what."""

    def __init__(self, together: int = 1):
        self.environs: list[dict[str, str]] = []
        self.most = self.now = 0
        self._lock = threading.Lock()
        self._all_here = threading.Barrier(together, timeout=60)

    def run(self, plan: Plan, *, environ, cancelled, on_event=None) -> Record:
        with self._lock:
            self.environs.append(environ)
            self.now += 1
            self.most = max(self.most, self.now)
        self._all_here.wait()  # so that those that can run together do
        with self._lock:
            self.now -= 1
        if on_event:
            on_event({"event": "hello"})
        return bare_record(plan.requested)


def test_records_come_as_they_end_and_return_in_order():
    machine, came, heard = Machine(), [], []
    records = run_plans(
        PLANS, on_record=came.append, on_event=lambda case, event: heard.append(case), run=machine.run
    )
    assert [r.requested for r in records] == CASES == heard
    assert sorted(came, key=lambda r: r.requested.tier_gb) == records
    assert (machine.most, machine.environs) == (1, [{}] * 4)


@pytest.mark.parametrize("gpus", [["0", "1"], ["GPU-a", "GPU-b"]])
def test_one_worker_per_card(monkeypatch, gpus):
    FakeNVML(monkeypatch, FakeGPU(uuid="GPU-a"), FakeGPU(uuid="GPU-b"))
    machine = Machine(together=2)
    run_plans(PLANS, on_record=print, gpus=gpus, run=machine.run)
    assert machine.most == 2
    seen = [environ["CUDA_VISIBLE_DEVICES"] for environ in machine.environs]
    assert sorted(seen) == sorted(gpus * 2)


def test_a_card_named_twice_has_one_worker():
    assert pool._slots(PLANS, ["1", "0", "1"], 1).gpus == ["1", "0"]


def test_on_a_cpu_cases_share_the_processor(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(pool.os, "cpu_count", lambda: 8)
    machine = Machine(together=2)
    small = [resolve(replace(case, tier_gb=case.tier_gb / 100)) for case in CASES]
    run_plans(small, on_record=print, jobs=2, run=machine.run)
    assert (machine.most, machine.environs) == (2, [{"OMP_NUM_THREADS": "4"}] * 4)


def test_host_memory_is_not_promised_twice():
    slots = Slots([None, None], host_bytes=10 * GIB)
    order = []

    def take(size: int):
        with slots.taken(size * GIB):
            order.append(size)

    with slots.taken(6 * GIB):
        threads = [threading.Thread(target=take, args=(size,)) for size in (6, 100)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert order == []
        with slots.taken(4 * GIB):
            order.append(4)
    for thread in threads:
        thread.join(60)
    assert sorted(order) == [4, 6, 100]  # what wants more than there is gets all of it


@pytest.mark.parametrize(("given_back", "usable"), [(True, True), (False, False)])
def test_a_card_that_keeps_memory_is_not_used_again(monkeypatch, given_back, usable):
    monkeypatch.setattr(pool, "RETURN_S", 0.3)
    readings = iter([0, 3 * GIB, *([0] if given_back else [3 * GIB] * 100)])
    monkeypatch.setattr(pool, "_used_bytes", lambda gpu: next(readings, 0))
    slots = Slots(["0"], host_bytes=GIB)
    with slots.taken(0):
        pass
    if usable:
        with slots.taken(0) as gpu:
            assert gpu == "0"
    else:
        with pytest.raises(MissingPrerequisite, match="GPU 0 did not get 3072 MiB back"), slots.taken(0):
            pass


def test_what_a_case_raises_ends_the_others():
    def run(plan, *, cancelled, **more):
        if plan.requested.tier_gb == 4:
            raise MissingPrerequisite("weights")
        assert cancelled.wait(60)
        return bare_record(plan.requested)

    with pytest.raises(MissingPrerequisite, match="weights"):
        run_plans(PLANS, on_record=print, jobs=1, run=run)


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError])
def test_an_interrupt_takes_nothing_that_was_measured(end):
    """Whoever writes a record down may be interrupted; what it cannot write it cannot write the next time."""
    came = []

    def hear(record: Record) -> None:
        came.append(record.requested)
        if len(came) == 1:
            raise end

    small = [resolve(replace(case, tier_gb=case.tier_gb / 100)) for case in CASES[:2]]
    with pytest.raises(end):
        run_plans(small, on_record=hear, jobs=2, run=Machine(together=2).run)
    again = [plan.requested for plan in small] if end is KeyboardInterrupt else []
    assert sorted(came[1:], key=lambda case: case.tier_gb) == again


def test_no_jobs_are_a_usage_error():
    with pytest.raises(UsageError, match="jobs"):
        run_plans(PLANS, on_record=print, jobs=0)


def test_an_interrupt_ends_every_worker():
    code = (
        "import os, signal, sys, threading; from functools import partial\n"
        "from tiersim import Case, pool; from tiersim.case import resolve; from tiersim.run import run_plan\n"
        f"run = partial(run_plan, worker=(sys.executable, {str(ZOO)!r}, 'hang'))\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job would ignore it
        "pids = []\n"
        "def hear(case, event):\n"
        "    if event['event'] == 'hello':\n"
        "        pids.append(event['pid'])\n"
        "        if len(pids) == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "plans = [resolve(Case(s, device='cpu', source='synthetic-tiny')) for s in (0.5, 0.6, 0.7)]\n"
        "try: pool.run_plans(plans, on_record=print, on_event=hear, jobs=2, run=run)\n"
        "except KeyboardInterrupt:\n"
        "    import psutil\n"
        "    print(len(pids), sum(map(psutil.pid_exists, pids)), threading.active_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250)
    assert done.stdout.split() == ["2", "0", "1"], done.stderr


def run_in_the_zoo(plan: Plan) -> Record:
    """A case of a cluster's worker, with the card it was given."""
    done = run_plan(plan, worker=(sys.executable, str(ZOO), "ok"))
    return replace(done, log=f"{os.getpid()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster_of_two_workers_runs_cases_side_by_side():
    distributed = pytest.importorskip("distributed", reason="needs dask: pip install '.[distributed]'")
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    came = []
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, resources={"GPU": 1}, dashboard_address=None
        ) as cluster,
        pool.on_cluster(cluster.scheduler_address, gpus_per_case=1) as executor,
    ):
        records = run_plans(PLANS, on_record=came.append, executor=executor, run=run_in_the_zoo)
    assert [r.requested for r in records] == CASES
    assert [r.status for r in records] == ["ok"] * 4
    assert len(came) == 4
    assert len({r.log.split()[0] for r in records}) == 2  # both took part


def test_a_scheduler_that_is_not_there(monkeypatch):
    pytest.importorskip("distributed", reason="needs dask: pip install '.[distributed]'")
    monkeypatch.setattr(pool, "CONNECT_S", 0.5)
    with pytest.raises(MissingPrerequisite, match="nobody answers"), pool.on_cluster("tcp://127.0.0.1:1"):
        pass


def test_without_dask_a_scheduler_is_a_missing_prerequisite(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPrerequisite, match=r"pip install '\.\[distributed\]'"), pool.on_cluster("a:1"):
        pass
