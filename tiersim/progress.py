"""The progress display of running cases: phase, step, memory, time passed and expected.

On a terminal one line per running case, redrawn in place below what is printed; elsewhere a plain line now
and then. What is expected is the mean of the cases that have ended, and says nothing
before the first has.

    with Progress(len(plans)) as progress:
        run_plans(plans, on_record=progress.on_record, on_event=progress.on_event)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TextIO

from harness.cards import of_size
from harness.memory import GIB
from harness.progress import doing, minutes
from harness.screen import Clock, Screen
from harness.text import harmless
from tiersim.case import Case
from tiersim.events import Event
from tiersim.notes import chosen
from tiersim.record import Record

PLAIN_EVERY_S = 10.0  # per case


@dataclass
class _Running:
    """The latest event of one worker."""

    case: Case
    started_s: float
    shown_s: float = -math.inf
    phase: str = "start"
    step: str = ""
    used_bytes: int = 0
    cap_bytes: int = 0

    def update(self, event: Event) -> None:
        self.used_bytes = event.get("used_bytes", self.used_bytes)
        if event["event"] == "cap":
            self.cap_bytes = event["bytes"]
        if event["event"] == "progress":
            self.step = f"{event['i']}/{event['n']}" if event["n"] else str(event["i"])
        if event["event"] == "phase":
            self.phase, self.step = event["name"], ""

    def line(self, now: float, expected_s: float | None) -> str:
        case = self.case
        parts = [
            f"{of_size(case.tier_gb)},",
            case.variant,
            "LM" if case.lm else "no LM",
            f"batch {case.batch_size}",
            chosen(case),
        ]
        memory = f"{self.used_bytes / GIB:.2f} of {self.cap_bytes / GIB:.2f} GiB" if self.cap_bytes else ""
        expected = f" of about {expected_s:.0f} s" if expected_s else " s"
        passed = f"{now - self.started_s:.0f}{expected}"
        running = f"{doing(self.phase)} {self.step}".strip()
        return harmless("  ".join(filter(None, (" ".join(filter(None, parts)), running, memory, passed))))


class Progress(Screen):
    """Shows `total` cases on `stream`; its methods may be called from any thread."""

    def __init__(self, total: int, stream: TextIO | None = None, clock: Clock | None = None) -> None:
        super().__init__(stream, clock)
        self._total = total
        self._ended_s: dict[Case, float] = {}
        self._running: dict[Case, _Running] = {}

    def on_event(self, case: Case, event: Event) -> None:
        """Take an event of a worker. What comes after the record of its case is of nothing that runs."""
        with self._lock:
            if case in self._ended_s:
                return
            running = self._running.setdefault(case, _Running(case, self._clock()))
            running.update(event)
            if self.live:
                self.draw(self.lines)
            elif self._clock() - running.shown_s >= PLAIN_EVERY_S:
                running.shown_s = self._clock()
                self.draw(lambda: self._lines([running]), now=True)

    def on_record(self, record: Record) -> None:
        """A case has ended."""
        with self._lock:
            self._running.pop(record.requested, None)
            if record.status != "skip":
                self._ended_s[record.requested] = record.process_s
            self._total -= 1

    def lines(self) -> list[str]:
        """One line per running case, then what is left of the run."""
        return self._lines(list(self._running.values()))

    def _lines(self, cases: Sequence[_Running]) -> list[str]:
        """The lines of some of the running cases, then what is left of the run."""
        with self._lock:
            now, expected_s, running = self._clock(), self._expected_s(), len(self._running)
            shown = [case.line(now, expected_s) for case in cases]
            waiting = self._total - running
            if waiting > 0 and expected_s:
                left_s = waiting * expected_s / max(1, running)
                shown.append(f"{waiting} more case{'s' if waiting > 1 else ''}, about {minutes(left_s)}")
            return shown

    def _expected_s(self) -> float | None:
        return fmean(self._ended_s.values()) if self._ended_s else None
