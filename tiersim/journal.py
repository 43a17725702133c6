"""The journal of a worker: what it has reported, in bounded space however much it sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from harness.records.memory import ProcessMemory
from tiersim.events import Event, parse
from tiersim.record import Sample

LINE_BYTES = 2**18
SAMPLES = 200  # of a timeline in a record
SAMPLES_KEPT = 100 * SAMPLES
PHASES = 1000  # far more than a case has


class Journal:
    """Bytes in, events out.

    `last`: the last event of each kind. `samples`: memory over time, since `started_s`. `stage_peaks`: the
    most of each phase, in bytes; `stage_processes`: that of the process. `phase`: the present one. `events`:
    how many so far; `steps`: those that are progress; `refused`: how many lines were no events. A line cut
    short by a kill is none.

    `on_event` is called with each event as it is read.
    """

    def __init__(self, on_event: Callable[[Event], object] = lambda event: None, started_s: float = 0.0):
        self.last: dict[str, Event] = {}
        self.samples: list[Sample] = []
        self.stage_peaks: dict[str, int] = {}
        self.stage_processes: dict[str, ProcessMemory] = {}
        self.phase = ""
        self.events = self.steps = self.refused = 0
        self._on_event = on_event
        self._started_s = started_s
        self._rest = b""
        self._skips = False  # the rest of a line that is too long
        self._stretch, self._taken = 1, 0  # each sample is the highest of so many; of the last one so far

    def feed(self, data: bytes) -> None:
        """Take bytes as they come; lines may be cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._skips:
                self._read(line)
            self._skips = False
        if len(self._rest) > LINE_BYTES:
            self.refused += not self._skips
            self._skips = True
        if self._skips:
            self._rest = b""

    def _read(self, line: bytes) -> None:
        event = parse(line)
        if event and self._started_s <= event["monotonic_s"] <= time.monotonic():
            self.add(event)
        else:
            self.refused += 1

    def add(self, event: Event) -> None:
        """Take an event that conforms to its schema."""
        kind = event["event"]
        self.last[kind] = event
        self.events += 1
        self.steps += kind != "hb"
        if "ended_peak_bytes" in event and (self.phase in self.stage_peaks or len(self.stage_peaks) < PHASES):
            self.stage_peaks[self.phase] = max(event["ended_peak_bytes"], self.stage_peaks.get(self.phase, 0))
            if process := event.get("ended_process"):
                before = self.stage_processes.get(self.phase, process)
                self.stage_processes[self.phase] = process.most(before)
        if kind == "phase":
            self.phase = event["name"]
        if "used_bytes" in event:
            self._sample(Sample(event["monotonic_s"] - self._started_s, self.phase, event["used_bytes"]))
        self._on_event(event)

    def _sample(self, sample: Sample) -> None:
        """Keep the highest of each stretch; all stretches are equally long, and twice that when there is no
        room for more of them."""
        if self._taken == 0:
            self.samples.append(sample)
        elif sample.used_bytes > self.samples[-1].used_bytes:
            self.samples[-1] = sample
        self._taken = (self._taken + 1) % self._stretch
        if self._taken == 0 and len(self.samples) == SAMPLES_KEPT:
            self.samples = list(thinned(self.samples, SAMPLES_KEPT // 2))
            self._stretch *= 2


def thinned(samples: Sequence[Sample], number: int = SAMPLES) -> tuple[Sample, ...]:
    """The highest sample of each of `number` stretches."""
    bounds = [len(samples) * i // number for i in range(number + 1)]
    stretches = [samples[start:end] for start, end in pairwise(bounds)]
    return tuple(max(stretch, key=lambda sample: sample.used_bytes) for stretch in stretches if stretch)
