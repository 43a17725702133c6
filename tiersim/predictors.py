"""A pool of processes that predict cases, and tell how far they are.

with Predictors() as predictors:
    predictors.run_plans(plans, on_record=print)
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Self

from harness.processes import Processes
from tiersim.case import Case, Plan
from tiersim.events import Event
from tiersim.pool import OnEvent
from tiersim.prediction import predict_plan
from tiersim.record import Record

Events = SimpleQueue[tuple[Case, Event] | None]  # None is the end
_events: Events  # in a process that predicts: where it tells how far it is


class Predictors:
    """`jobs` processes, by default one per core. Entered, they are there until the end of the block."""

    def __init__(self, jobs: int | None = None):
        self._events: Events = multiprocessing.get_context("spawn").SimpleQueue()
        self._processes = Processes(jobs, _tell_to, self._events)
        self._on_event: OnEvent = lambda case, event: None
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._processes.__exit__(kind, *rest)
        if not kind:  # else one of them may have ended while it had the queue
            self._events.put(None)
            self._listener.join()

    def run_plans(
        self,
        plans: Sequence[Plan],
        *,
        on_record: Callable[[Record], object],
        on_event: OnEvent = lambda case, event: None,
    ) -> list[Record]:
        """Predict `plans`; their records in the order of the plans.

        `on_record` is called here, in this thread and in that order, `on_event` in another. Raises
        ChildProcessError when a process was ended from outside.
        """
        self._on_event = on_event
        records = []
        try:
            for record in self._processes.map(_predict, plans):
                on_record(record)
                records.append(record)
        except ChildProcessError as error:
            raise ChildProcessError(f"{error}; try python -m tiersim --jobs 1") from None
        return records

    def _listen(self) -> None:
        while message := self._events.get():
            self._on_event(*message)


def _tell_to(events: Events) -> None:
    global _events
    _events = events


def _predict(plan: Plan) -> Record:
    return predict_plan(plan, partial(_tell, plan.requested))


def _tell(case: Case, event: Event) -> None:
    _events.put((case, event))
