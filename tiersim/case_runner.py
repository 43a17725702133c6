"""The run of a whole tier test: plans in, records out, each kept and shown as soon as it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from harness.records.writer import Writer
from tiersim import document, sweep
from tiersim.case import Plan
from tiersim.record import Record
from tiersim.results import Results

Runner = Callable[[Sequence[Plan], Callable[[Record], None]], object]


class CaseRunner:
    """Where plans become records, each configuration once however often it is asked for.

    `runner(plans, on_record)` runs plans, in any order. `results` keeps them and has earlier ones, `writers`
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

    def run(self, plans: Sequence[Plan]) -> list[Record]:
        """A record for every plan, as if it had been run for that one."""
        plan_of = sweep.by_key(plans)
        missing = []
        for plan in plan_of.values():
            if plan.key in self.records:
                continue
            if record := self._results and self._results.find(plan):
                self._take(replace(record, requested=plan.requested), plan)
            else:
                missing.append(plan)
        if missing:
            self._runner(missing, lambda record: self._take(record, plan_of[record.key], new=True))
        return list(map(self._of, plans))

    def so_far(self, plans: Sequence[Plan]) -> list[Record]:
        """The same of those plans that have run."""
        return [self._of(plan) for plan in plans if plan.key in self.records]

    def _of(self, plan: Plan) -> Record:
        return replace(self.records[plan.key], requested=plan.requested)

    def _take(self, record: Record, plan: Plan, *, new: bool = False) -> None:
        self.records[record.key] = record
        try:
            if new and self._results:
                self._results.add(plan, record)
            for writer in self._writers:
                writer.add(document.item(record))
        finally:
            self._show(record)  # measured is measured, also where there is no room to write it down
