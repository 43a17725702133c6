"""What is timed: rounds of pairs, until every series is judged or the time is over.

A series that is judged is measured no further. Where there is no time for all that are not, the cheapest
cells are measured to the end, and the others not begun again.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks._matrix import ENGINES
from harness import console
from harness.budget import shortage
from harness.progress import Progress
from scripts.gate.sides import Side
from scripts.gate.statistics import Judgement, best_pairs, judge, pairs_needed, share
from scripts.gate.suites import NotMeasured, Reading
from scripts.gate.workers import Job, Round, measure_round

ROUNDS = 4  # fresh processes of each side, before anything is judged
FEWEST_PAIRS, MOST_PAIRS = 3, 24  # of one round
SEED = 1935  # of the lots
THROTTLED = ("throttle_events", "quota_waits_s", "gpu_slowed")  # of a record's conditions


@dataclass
class Timed:
    """A series: pairs so far, `base[i]` beside `head[i]`, and what is known."""

    reading: Reading
    base: list[float] = field(default_factory=list)
    head: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # pairs of each round
    looks: int = 0
    judgement: Judgement | None = None
    absent: bool = False  # n/a, or nothing to compare with
    failure: str = ""  # of BASE
    problem: str = ""  # why HEAD has no number

    @property
    def open(self) -> bool:
        known = self.judgement is not None and self.judgement.verdict != "cannot tell"
        return not (known or self.absent or self.problem)

    def add(self, round: Round) -> None:
        """Take what a round has measured of it."""
        base, head = (_value(self.reading, records) for records in round.records)
        self.absent = not isinstance(base, dict)
        self.failure = str(base or "") if self.absent else ""
        if self.absent:
            return
        if not isinstance(head, dict):
            self.problem = str(head or "HEAD has no such number, BASE has one")
        elif pairs := min(len(base["samples"]), len(head["samples"])):  # one may have run once more
            self.sizes.append(pairs)
            self.base += base["samples"][:pairs]
            self.head += head["samples"][:pairs]

    def best_pairs(self, start_s: float, pair_s: float) -> float:
        """Of a round, by what its rounds were like so far."""
        ratios = [math.log(head / base) for base, head in zip(self.base, self.head, strict=True)]
        return best_pairs(ratios, self.sizes, start_s, pair_s)

    def look(self, series: int, rounds: int = ROUNDS) -> None:
        """Judge it, one of so many, where there are pairs and `rounds` enough."""
        if self.open and len(self.sizes) >= rounds and len(self.base) >= pairs_needed(series):
            self.looks += 1
            chance = share(series, self.looks)
            self.judgement = judge(self.base, self.head, self.reading.unit, chance, self.sizes)


def _value(reading: Reading, records: dict[str, dict]) -> Any:
    """Samples, None for n/a, or the failure. No samples where the cell was not begun, and could have been."""
    if reading.cell.name not in records and records.get("header", {"status": "ok"})["status"] == "ok":
        return {"samples": []}
    try:
        return reading.value(records)
    except NotMeasured as error:
        return error


def _throttling(round: Round) -> Iterator[float]:
    """What the machine tells of it, by cell: above zero where it was held back."""
    for records in round.records:
        for record in records.values():
            values = map(record.get("conditions", {}).get, THROTTLED)
            yield from (float(value) for value in values if value is not None)


class Timing:
    """Both sides timed in turns. `load`: the highest average of a minute; `throttled`: None while unknown."""

    def __init__(self, sides: tuple[Side, Side], readings: list[Reading], until_s: float, seed: int = SEED):
        self.series = [Timed(reading) for reading in readings]
        self.rounds = 0
        self.load = 0.0
        self.throttled: bool | None = None
        self.shortage = ""  # what the time was too short for
        self._began_s = time.monotonic()
        self._sides, self._until_s, self._lot = sides, until_s, random.Random(seed)
        self._cost_s: dict[str, float] = {}  # of a pair, by cell
        self._start_s = 0.0  # of a round
        pairs = pairs_needed(len(readings))
        self._pairs = max(FEWEST_PAIRS, math.ceil(pairs / ROUNDS))

    def run(self) -> None:
        """Measure until nothing is open, or the time is over. Interrupted, it judges what there is."""
        try:
            self._measure_rounds()
        finally:
            self._judge_the_rest()
        self.shortage = self._shortage()

    def _measure_rounds(self) -> None:
        while (left_s := self._until_s - time.monotonic()) > 0 and (cells := self._next(left_s)):
            start_s = time.monotonic()
            self.rounds += 1
            with Progress(sum(map(self._work, cells)), len(cells)) as progress:
                for job, names in self._by_job(cells):
                    self._measure(job, names, progress)
            for one in self.series:
                one.look(self.present)
            still = sum(one.open for one in self.series)
            spent = f"round {self.rounds}, {len(cells)} cells in {time.monotonic() - start_s:.0f} s"
            console.say("gate", f"{spent}; {still} of {len(self.series)} series are open")

    def _judge_the_rest(self) -> None:
        for one in self.series:
            if not one.looks:
                one.look(self.present, rounds=1)

    @property
    def present(self) -> int:
        """How many series there are on both sides, as far as is known."""
        return sum(not one.absent for one in self.series)

    @property
    def failures(self) -> list[str]:
        """Why BASE has none of what is therefore not compared."""
        return [one.failure for one in self.series if one.failure and one.absent]

    def _work(self, cell: str) -> float:
        """How long a pair of a cell takes, as far as is known."""
        return self._cost_s.get(cell, 1.0)

    def _measure(self, job: Job, cells: list[str], progress: Progress) -> None:
        def before(cell: str) -> None:
            progress.step(f"round {self.rounds}, {cell}", self._work(cell))

        pairs = self._pairs_of(cells)
        round = measure_round(self._sides, job, cells, pairs, self._until_s, self._lot, before)
        self._cost_s |= round.cost_s
        self._start_s = max(self._start_s, round.start_s)
        self.load = max(self.load, os.getloadavg()[0])
        if events := list(_throttling(round)):
            self.throttled = any(events) or bool(self.throttled)
        for one in self.series:
            if one.reading.cell.name in cells and one.reading.job == job and one.open:
                one.add(round)

    def _pairs_of(self, cells: list[str]) -> int:
        """Pairs of a round. Few cheap cells get more, where the time is enough for all rounds: one that takes
        longer to start than to measure is a waste. Once there are rounds, their noise says how many."""
        cost_s = sum(self._cost_s.get(cell, math.inf) for cell in cells)
        if not 0 < cost_s < math.inf:
            return self._pairs
        round_s = (self._until_s - time.monotonic()) / max(1, ROUNDS - self.rounds + 1)
        affordable = int((round_s - self._start_s) / cost_s)
        wanted = self._start_s / cost_s
        if self.rounds > ROUNDS:
            still = [one for one in self.series if one.open and one.reading.cell.name in cells]
            wanted = max(one.best_pairs(self._start_s, cost_s) for one in still)
        return max(self._pairs, min(math.ceil(min(wanted, MOST_PAIRS)), affordable))

    def _next(self, left_s: float) -> list[str]:
        """The cells of the next round: all that are open, or the cheapest of which there is time to judge."""
        cells = list(dict.fromkeys(one.reading.cell.name for one in self.series if one.open))
        if not self.rounds:
            return cells
        rounds = max(1, ROUNDS - self.rounds)
        left_s -= rounds * self._start_s
        chosen = set()
        for cell in sorted(cells, key=lambda cell: self._cost_s.get(cell, 0.0)):
            left_s -= rounds * self._pairs * self._cost_s.get(cell, 0.0)
            if left_s < 0:
                break
            chosen.add(cell)
        return [cell for cell in cells if cell in chosen]

    def _shortage(self) -> str:
        """The cheapest cell that is still open, with what judging it would have taken; empty without one."""
        cells = dict.fromkeys(one.reading.cell.name for one in self.series if one.open)
        costs = {cell: self._cost_s[cell] for cell in cells if cell in self._cost_s}
        if not costs:
            return ""
        cell, rounds = min(costs, key=lambda name: costs[name]), max(1, ROUNDS - self.rounds)
        now_s, needs_s = time.monotonic(), rounds * (self._start_s + self._pairs * costs[cell])
        all_s = rounds * (self._start_s + self._pairs * sum(costs.values()))
        left_s, spent_s = self._until_s - now_s, now_s - self._began_s
        reason = shortage(needs_s, left_s, spent_s + needs_s, spent_s + all_s, len(costs))
        return f"the next cell, {cell}, {reason}"

    def _by_job(self, cells: list[str]) -> Iterator[tuple[Job, list[str]]]:
        """Cells by the worker that measures them, those of one engine together."""
        engines = list(ENGINES)
        for job in dict.fromkeys(one.reading.job for one in self.series):
            own = {one.reading.cell for one in self.series if one.reading.job == job}
            own = [cell for cell in own if cell.name in cells]
            own.sort(key=lambda cell: (engines.index(cell.engine), cell.name))
            if own:
                yield job, [cell.name for cell in own]
