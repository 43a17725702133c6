"""Cases over devices: one worker per card, one case per card at a time, host memory shared out.

    run_plans(plans, on_record=print)                           the cards of this machine, or its CPU
    run_plans(plans, on_record=print, executor=on_cluster(...)) the machines of a dask cluster

Cases are submitted to a `concurrent.futures` executor, so that threads here and a cluster elsewhere are the
same to whoever asks. A record comes as soon as its case has ended, in whatever order.

A card that does not get its memory back within 10 s of a case is not used again: what still holds it
would be charged to the next one.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness import nvml
from harness.errors import MissingPrerequisite, UsageError
from tiersim.case import Case, Plan
from tiersim.events import Event
from tiersim.record import Record
from tiersim.run import run_plan
from tiersim.supervisor import SPARE_BYTES

OnEvent = Callable[[Case, Event], object]
RETURNED_BYTES = 64 * 2**20  # of a card's memory may stay in use by drivers
RETURN_S = 10.0
CONNECT_S = 30.0


@dataclass
class Slots:
    """Cards to take and give back, and host memory to share. `gpus`: as CUDA_VISIBLE_DEVICES names them."""

    gpus: Sequence[str | None]
    host_bytes: int
    cancelled: threading.Event = field(default_factory=threading.Event)
    _change: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._free = deque(self.gpus)
        self._unusable: list[str] = []
        self._host_free_bytes = self.host_bytes

    @contextmanager
    def taken(self, host_bytes: int) -> Iterator[str | None]:
        """A card and `host_bytes` of memory, waited for. More memory than there is means all of it.

        Raises MissingPrerequisite when no card is usable any more.
        """
        host_bytes = min(host_bytes, self.host_bytes)
        with self._change:
            self._change.wait_for(lambda: not self._usable or self._ready(host_bytes))
            if not self._usable:
                raise MissingPrerequisite(f"no card is usable: {'; '.join(self._unusable)}")
            gpu = self._free.popleft()
            self._host_free_bytes -= host_bytes
        before = None if gpu is None else _used_bytes(gpu)
        kept = None
        try:
            yield gpu
            kept = None if gpu is None or before is None else self._kept(gpu, before)
        finally:
            with self._change:
                self._host_free_bytes += host_bytes
                if kept:
                    self._unusable.append(kept)
                else:
                    self._free.append(gpu)
                self._change.notify_all()

    def environ(self, gpu: str | None) -> dict[str, str]:
        """What a worker on `gpu` is to see: that card, and its share of the processor."""
        if gpu is not None:
            return {"CUDA_VISIBLE_DEVICES": gpu}
        if len(self.gpus) == 1 or "OMP_NUM_THREADS" in os.environ:
            return {}
        return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(self.gpus)))}

    @property
    def _usable(self) -> int:
        return len(self.gpus) - len(self._unusable)

    def _ready(self, host_bytes: int) -> bool:
        return bool(self._free) and self._host_free_bytes >= host_bytes

    def _kept(self, gpu: str, before: int) -> str | None:
        """Why `gpu` cannot be used again, or None: what ended has to have given its memory back."""
        until = time.monotonic() + RETURN_S
        while (now := _used_bytes(gpu)) is not None and now > before + RETURNED_BYTES:
            if time.monotonic() > until:
                return f"GPU {gpu} did not get {(now - before) / 2**20:.0f} MiB back"
            time.sleep(0.1)
        return None


def run_plans(
    plans: Sequence[Plan],
    *,
    on_record: Callable[[Record], object],
    on_event: OnEvent | None = None,
    gpus: Sequence[str] | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    run: Callable[..., Record] = run_plan,
) -> list[Record]:
    """Run `plans`; their records in the order of the plans.

    `on_record` is called here, in this thread, as cases end. `on_event` is called from the threads that
    watch workers, and never for a cluster's. `gpus`: the cards to use, by default all; without any, `jobs`
    cases run at a time on the CPU, as far as their caps together leave the machine 2 GiB. `executor`: runs
    cases elsewhere; each of its workers has its own card. `run` is for tests.

    Raises what a case raises. An interrupt goes on once every running worker is ended, and what has ended by
    itself is told.
    """
    if executor is not None:
        return _collect([executor.submit(run, plan) for plan in plans], on_record, set())
    slots = _slots(plans, gpus, jobs)
    recorded: set[Future[Record]] = set()
    with ThreadPoolExecutor(len(slots.gpus)) as threads:
        submitted = [threads.submit(_run_one, run, plan, slots, on_event) for plan in plans]
        try:
            return _collect(submitted, on_record, recorded)
        except BaseException as end:
            slots.cancelled.set()
            threads.shutdown(cancel_futures=True)
            if isinstance(end, KeyboardInterrupt):  # what ended meanwhile is measured
                whole = (future for future in submitted if not future.cancelled() and not future.exception())
                _collect([future for future in whole if future not in recorded], on_record, recorded)
            raise


def _collect(
    submitted: Sequence[Future[Record]],
    on_record: Callable[[Record], object],
    recorded: set[Future[Record]],
) -> list[Record]:
    """The records in the order of `submitted`, each told as it comes; `recorded` gets those that were."""
    for future in as_completed(submitted):
        on_record(future.result())
        recorded.add(future)
    return [future.result() for future in submitted]


def _run_one(run: Callable[..., Record], plan: Plan, slots: Slots, on_event: OnEvent | None) -> Record:
    more: dict[str, Any] = {"cancelled": slots.cancelled}
    if on_event:
        more["on_event"] = partial(on_event, plan.requested)
    with slots.taken(_host_bytes(plan)) as gpu:
        return run(plan, environ=slots.environ(gpu), **more)


def _host_bytes(plan: Plan) -> int:
    """Host memory a case may take: its cap where the cap is on it, or what is simulated there."""
    return plan.cap_bytes * (1 + plan.beside) if plan.device == "cpu" and not plan.skip else 0


def _used_bytes(gpu: str) -> int | None:
    """Of a card, by anybody; None where the driver does not say."""
    with nvml.Card(gpu) as card:
        return card.used_bytes


def _slots(plans: Sequence[Plan], gpus: Sequence[str] | None, jobs: int) -> Slots:
    """Every card for cases that leave the card open; one slot where a case names its own or has parts on
    several, or on a CPU."""
    import psutil

    if jobs < 1:
        raise UsageError(f"jobs: {jobs} is not allowed; use a whole number from 1")
    host_bytes = max(0, psutil.virtual_memory().total - SPARE_BYTES)
    devices = {plan.device for plan in plans}
    several = any(plan.beside for plan in plans)
    if several and gpus:
        raise UsageError("gpus: each is the only card of a case, and --place names several; drop one of them")
    if (devices == {"cuda"} and not several) or gpus:
        cards = list(dict.fromkeys(gpus or nvml.visible()))  # a card named twice is still one
        return Slots(cards or [None], host_bytes)
    return Slots([None] * (min(jobs, max(1, len(plans))) if devices <= {"cpu"} else 1), host_bytes)


@contextmanager
def on_cluster(address: str, gpus_per_case: int = 0) -> Iterator[Executor]:
    """An executor over the workers of a dask cluster, each of which runs one case at a time.

    Start one per card with its CUDA_VISIBLE_DEVICES, one thread and `--resources "GPU=1"`; `gpus_per_case` 1
    then asks for one each. A case that runs when the client leaves runs to its end. dask pickles: use it on a
    network you trust. Raises MissingPrerequisite without dask.distributed or an answer at `address`.
    """
    try:
        from distributed import Client  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingPrerequisite("scheduler: dask is not installed; pip install '.[distributed]'") from None
    try:
        client = Client(address, timeout=CONNECT_S)
    except OSError as error:
        raise MissingPrerequisite(f"scheduler: nobody answers at {address} ({error})") from None
    with client:
        resources = {"GPU": gpus_per_case} if gpus_per_case else None
        yield client.get_executor(pure=False, retries=0, resources=resources)
