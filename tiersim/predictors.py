"""Processes that predict cases, and say how far they are.

with Predictors() as predictors:
    predictors.run_cases(cases, on_record=print)
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Self

from harness.processes import Processes
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
        self._said: Said = multiprocessing.get_context("spawn").SimpleQueue()
        self._processes = Processes(jobs, _say_to, self._said)
        self._on_event: OnEvent = lambda case, event: None
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._processes.__exit__(kind, *rest)
        if not kind:  # else one of them may have ended while it had the queue
            self._said.put(None)
            self._listener.join()

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
        records = []
        try:
            for record in self._processes.map(_predict, cases):
                on_record(record)
                records.append(record)
        except ChildProcessError as error:
            raise ChildProcessError(f"{error}; try --jobs 1") from None
        return records

    def _listen(self) -> None:
        while said := self._said.get():
            self._on_event(*said)


def _say_to(said: Said) -> None:
    global _said
    _said = said


def _predict(case: Case) -> Record:
    return predict_case(case, partial(_say, case))


def _say(case: Case, event: Event) -> None:
    _said.put((case, event))
