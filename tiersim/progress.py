"""The progress display of running cases: phase, step, memory, time passed and expected.

On a terminal one line per running case, redrawn in place below what is printed; elsewhere a plain line now
and then. What is expected is the mean of the cases that have ended, and says nothing
before the first has.

    with Progress(len(plans)) as progress:
        run_plans(plans, on_record=progress.on_record, on_event=progress.on_event)
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import TextIO

from harness.memory import GIB
from harness.text import harmless
from tiersim.case import Case
from tiersim.events import Event
from tiersim.notes import chosen
from tiersim.record import Record

REDRAWS_PER_S = 4
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
            f"{case.tier_gb:g}GB",
            case.variant,
            "LM" if case.lm else "no LM",
            f"batch {case.batch_size}",
            chosen(case),
        ]
        memory = f"{self.used_bytes / GIB:.2f} of {self.cap_bytes / GIB:.2f} GiB" if self.cap_bytes else ""
        expected = f" of about {expected_s:.0f} s" if expected_s else " s"
        passed = f"{now - self.started_s:.0f}{expected}"
        running = f"{self.phase} {self.step}".strip()
        return harmless("  ".join(filter(None, (" ".join(filter(None, parts)), running, memory, passed))))


class Progress:
    """Shows `total` cases on `stream`; its methods may be called from any thread."""

    def __init__(
        self, total: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        from rich.console import Console
        from rich.live import Live

        self._total = total
        self._clock = clock
        self._ended_s: list[float] = []
        self._running: dict[Case, _Running] = {}
        self._lock = threading.Lock()
        console = Console(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live = None
        if console.is_terminal:
            self._live = Live(
                get_renderable=self._text,
                console=console,
                refresh_per_second=REDRAWS_PER_S,
                transient=True,
                redirect_stdout=True,
                redirect_stderr=False,
            )
        self._console = console

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def on_event(self, case: Case, event: Event) -> None:
        """Take an event of a worker."""
        with self._lock:
            running = self._running.setdefault(case, _Running(case, self._clock()))
            running.update(event)
            now = self._clock()
            if self._live is None and now - running.shown_s >= PLAIN_EVERY_S:
                running.shown_s = now
                self._console.print(running.line(now, self._expected_s()), markup=False)

    def on_record(self, record: Record) -> None:
        """A case has ended."""
        with self._lock:
            if self._running.pop(record.requested, None):
                self._ended_s.append(record.process_s)
            self._total -= 1

    def lines(self) -> list[str]:
        """One line per running case, then what is left of the run."""
        with self._lock:
            now, expected_s = self._clock(), self._expected_s()
            shown = [running.line(now, expected_s) for running in self._running.values()]
            waiting = self._total - len(shown)
            if waiting > 0 and expected_s:
                left_s = waiting * expected_s / max(1, len(shown))
                shown.append(f"{waiting} more cases, about {left_s / 60:.0f} min")
            return shown

    def _expected_s(self) -> float | None:
        return fmean(self._ended_s) if self._ended_s else None

    def _text(self):
        from rich.text import Text

        return Text("\n".join(self.lines()), no_wrap=True, overflow="ellipsis")
