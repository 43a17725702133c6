"""A run: cases in, records out, each written down and shown as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.records.writer import Writer
from tiersim import document, sweep
from tiersim.case import Case, Plan, resolve
from tiersim.record import Record
from tiersim.results import Results

Runner = Callable[[Sequence[Case], Callable[[Record], None]], object]


class CaseRunner:
    """Where cases become records, each configuration once however often it is asked for.

    `runner(cases, on_record)` runs cases, in any order. `results` keeps them and has earlier ones, `writers`
    are files in the profiler's format, `show` is called with each record in turn.
    """

    def __init__(
        self,
        runner: Runner,
        show: Callable[[Record], None],
        results: Results | None = None,
        writers: Sequence[Writer] = (),
    ):
        self._runner = runner
        self._show = show
        self._results = results
        self._writers = writers
        self.records: dict[str, Record] = {}  # by key, in the order they came

    def run(self, cases: Sequence[Case]) -> list[Record]:
        """A record for every case, as if it had been run for that one."""
        planned = sweep.unique(cases)
        plans = {plan.key: plan for _, plan in planned}
        todo = []
        for case, plan in planned:
            if plan.key in self.records:
                continue
            if record := self._results and self._results.find(plan):
                self._take(replace(record, requested=case), plan)
            else:
                todo.append(case)
        if todo:
            self._runner(todo, lambda record: self._take(record, plans[record.key], new=True))
        return [replace(self.records[resolve(case).key], requested=case) for case in cases]

    def _take(self, record: Record, plan: Plan, *, new: bool = False) -> None:
        self.records[record.key] = record
        try:
            if new and self._results:
                self._results.add(plan, record)
            for writer in self._writers:
                writer.add(document.item(record))
        finally:
            self._show(record)  # measured is measured, also where there is no room to write it down
