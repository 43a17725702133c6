"""Events of a running worker: phases, progress, memory, and a heartbeat.

Liveness is not progress. The heart is a thread of its own: it beats through a hang in Python and stops
only when native code keeps the interpreter. Progress is told by the engine's spans: each stage is a
phase, each step, tile and token inside it progress.

Memory is read at both: bytes in use with every event, and the peak of a phase when the next begins, with what
host and driver count of the process then.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from harness.memory import MemoryBudget

if TYPE_CHECKING:
    from harness.process_memory import ProcessAccount

BEAT_S = 0.25
PROGRESS_EVERY_S = 0.1  # tokens come by the thousand
LOADING = ("import", "cap", "load")


class Fullest(MemoryBudget):
    """The memory of cards that have one cap: of each figure the highest. `peaks`: of each card, until now."""

    def __init__(self, budgets: Mapping[Any, MemoryBudget]):
        self._budgets = budgets
        self.peaks: dict[str, int] = {}

    def used_bytes(self) -> int:
        return max(budget.used_bytes() for budget in self._budgets.values())

    def peak_bytes(self) -> int:
        now = {str(device): budget.peak_bytes() for device, budget in self._budgets.items()}
        self.peaks = {device: max(peak, self.peaks.get(device, 0)) for device, peak in now.items()}
        return max(now.values())

    def reset_peak(self) -> None:
        for budget in self._budgets.values():
            budget.reset_peak()

    @property
    def peak_source(self) -> str:
        return next(iter(self._budgets.values())).peak_source


class Reporter:
    """Sends events while entered. `budget` and `process` are set once the cap is in force; before, no memory
    is told."""

    def __init__(self, send: Callable[..., object], steps: int):
        self.send = send
        self.budget: MemoryBudget | None = None
        self.process: ProcessAccount | None = None
        self._steps = steps
        self._phase = ""
        self._count = 0
        self._sent_s = 0.0
        self._stage_peaks: dict[str, int] = {}
        self._stopped = threading.Event()

    def __enter__(self) -> Reporter:
        from harness.spans import observe

        observe(self._on_span)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        from harness.spans import observe

        observe(None)
        self._stopped.set()

    def begin(self, phase: str) -> None:
        """The phase before it has ended."""
        ended = self._end_phase()
        self._phase, self._count, self._sent_s = phase, 0, time.monotonic()
        self.send("phase", name=phase, **ended, **self._memory())

    def peaks(self) -> dict[str, Any]:
        """The most that counted against the cap, while loading and after; empty without a cap."""
        if self.budget is None:
            return {}
        ended = self._end_phase()
        loading = [peak for phase, peak in self._stage_peaks.items() if phase.split("/")[0] in LOADING]
        after = [peak for phase, peak in self._stage_peaks.items() if phase.split("/")[0] not in LOADING]
        return ended | {
            "load_peak_bytes": max(loading, default=0),
            "generation_peak_bytes": max(after, default=None),
            "peak_source": self.budget.peak_source,
        }

    def _end_phase(self) -> dict[str, Any]:
        """The peak of the phase that ends, and its process; new peaks begin."""
        if self.budget is None:
            return {}
        peak = self.budget.peak_bytes()
        self._stage_peaks[self._phase] = max(peak, self._stage_peaks.get(self._phase, 0))
        ended: dict[str, Any] = {"ended_peak_bytes": peak}
        if self.process:
            ended["ended_process"] = asdict(self.process.read())
            self.process.reset_peak()
        self.budget.reset_peak()
        return ended

    def _on_span(self, path: str) -> None:
        """A stage is a phase; what begins inside one is progress. A part that loads is a phase, too.

        While an exception is on its way only cleaning up begins, and the phase that failed stays the last.
        """
        if sys.exc_info()[0] is not None:
            return
        stage, _, inside = path.partition("/")
        phase = path if stage == "load" else stage
        if phase != self._phase:
            self.begin(phase)
        elif inside:
            self._count += 1
            now = time.monotonic()
            if now - self._sent_s >= PROGRESS_EVERY_S:
                self._sent_s = now
                n = self._steps if path == "diffuse/step" else None
                self.send("progress", phase=phase, i=self._count, n=n, **self._memory())

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_S):
            self.send("hb", **self._memory())

    def _memory(self) -> dict[str, int]:
        return {} if self.budget is None else {"used_bytes": self.budget.used_bytes()}
