"""What worker and supervisor agree on: exit codes, and events as JSON lines on a private pipe.

The pipe is inherited by number (TIERSIM_EVENTS_FD); standard output is never parsed, so a library that
prints cannot forge or tear an event. Events: `hello`, `cap`, `phase`, then one of `result`, `oom` or
`error`. An exit with code 0 counts only together with a `result`.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from tiersim.case import Case, Plan

EVENTS_FD_VARIABLE = "TIERSIM_EVENTS_FD"
VERSION = 1


class Exit(IntEnum):
    """How a worker ends. 1 is never used on purpose: an uncaught traceback and libgomp produce it."""

    OK = 0
    USAGE = 2
    PREREQUISITE = 3
    DEVICE_OOM = 20
    HOST_OOM = 21
    NO_CAP = 22
    INVALID = 23
    REFUSED = 24
    FAILED = 70


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is told, as JSON in its first argument."""

    case: Case
    device: str
    lm: str | None
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    cap_bytes: int

    @classmethod
    def of(cls, plan: Plan) -> Job:
        offload = plan.offload_to_cpu, plan.offload_dit_to_cpu
        return cls(plan.case, plan.device, plan.lm, *offload, plan.cap_bytes)

    @classmethod
    def decode(cls, text: str) -> Job:
        fields = json.loads(text)
        return cls(**fields | {"case": Case(**fields["case"])})

    def encode(self) -> str:
        return json.dumps(asdict(self))


class EventWriter:
    """The worker's end. One unbuffered write per event, so what was sent survives what comes next."""

    def __init__(self) -> None:
        self._fd = int(os.environ[EVENTS_FD_VARIABLE])

    def __call__(self, event: str, **fields: Any) -> None:
        line = {"v": VERSION, "event": event, "monotonic_s": time.monotonic()} | fields
        os.write(self._fd, json.dumps(line).encode() + b"\n")


class EventReader:
    """The supervisor's end: bytes in, whole events out. A line cut short by a kill is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self.events: list[dict[str, Any]] = []

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                self.events.append(event)
