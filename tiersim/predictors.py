"""Processes that predict: each imports torch once and serves many cases.

    with Predictors() as predictors:
        predictors.run_cases(cases, on_record=print)

A prediction rests on its case alone, so it does not matter which process makes it. A process takes 0.4 GB and
ends with whoever started it, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from typing import Self

from tiersim.case import Case
from tiersim.pool import OnEvent
from tiersim.prediction import predict_case
from tiersim.protocol import Event
from tiersim.record import Record

Said = SimpleQueue[tuple[Case, Event] | None]  # None is the end
_said: Said  # in a process that predicts: what it says


class Predictors:
    """`jobs` processes, by default one per core. Entered, they are there until the end of the block."""

    def __init__(self, jobs: int | None = None):
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the locks of this process's threads
        self._said: Said = spawn.SimpleQueue()
        theirs, self._hold = spawn.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(jobs or _cores(), spawn, _begin, (self._said, theirs))
        self._on_event: OnEvent = lambda case, event: None
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind:
            self._hold.close()  # which ends them; the executor would wait for what they are doing
        self._executor.shutdown(cancel_futures=True)
        if not kind:  # else one of them may have ended while it had the queue
            self._said.put(None)
            self._listener.join()
        self._hold.close()

    def run_cases(
        self,
        cases: Sequence[Case],
        *,
        on_record: Callable[[Record], object],
        on_event: OnEvent = lambda case, event: None,
    ) -> list[Record]:
        """Predict `cases`; their records in the order of the cases.

        `on_record` is called here, in this thread and in that order, `on_event` in another. Raises
        ChildProcessError when a process was ended from outside.
        """
        self._on_event = on_event
        try:
            records = []
            for record in self._executor.map(_predict, cases):
                on_record(record)
                records.append(record)
            return records
        except BrokenProcessPool:
            raise ChildProcessError(
                "a process that predicts was ended from outside, perhaps for its memory; try --jobs 1"
            ) from None

    def _listen(self) -> None:
        while said := self._said.get():
            self._on_event(*said)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(said: Said, held: Connection) -> None:
    """Of a process: an interrupt is its parent's to act on, and it lives while the parent holds on to it."""
    global _said
    _said = said
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is computed
    threading.Thread(target=_follow, args=(held,), daemon=True).start()


def _follow(held: Connection) -> None:
    with suppress(EOFError, OSError):
        held.recv()
    os._exit(0)


def _predict(case: Case) -> Record:
    return predict_case(case, partial(_say, case))


def _say(case: Case, event: Event) -> None:
    _said.put((case, event))
