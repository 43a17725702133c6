"""What worker and supervisor agree on: exit codes, and events as JSON lines on a private pipe.

The pipe is inherited by number (TIERSIM_EVENTS_FD); standard output is never parsed, so a library that
prints cannot forge or tear an event.

    hello     who runs
    cap       the limit in force
    phase     what begins, the memory in use and the peak of the phase that ended with it
    progress  a step, a tile, a token: `i` of `n`, where n is known
    hb        the interpreter still turns; no progress by itself
    result, oom, error    one of them, last

An exit with code 0 counts only together with a `result`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import Any

from acestep.setup import NONE, Setup
from harness.accelerators import Accelerator
from tiersim.case import Case, Plan

EVENTS_FD_VARIABLE = "TIERSIM_EVENTS_FD"
VERSION = 1

Event = Mapping[str, Any]


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
    """What a worker is told, as JSON in its first argument: the fields of a `Plan` that it needs."""

    case: Case
    device: str
    source: str
    dit: str
    lm: str | None
    lm_backend: str
    offload_to_cpu: bool
    offload_dit_to_cpu: bool
    quantization: str | None
    compile: bool
    cap_kind: str
    cap_bytes: int

    @classmethod
    def of(cls, plan: Plan) -> Job:
        return cls(**{field.name: getattr(plan, field.name) for field in fields(cls)})

    @classmethod
    def decode(cls, text: str) -> Job:
        told = json.loads(text)
        return cls(**told | {"case": Case(**told["case"])})

    def encode(self) -> str:
        return json.dumps(asdict(self))

    def setup(self, device: str, accelerator: Accelerator | None) -> Setup:
        """The engine it asks for, as it was resolved: nothing is decided again."""
        return Setup.choose(
            self.source,
            device=device,
            dit=self.dit,
            lm=self.lm,
            lm_backend=self.lm_backend or "auto",
            offload_to_cpu=self.offload_to_cpu,
            offload_dit_to_cpu=self.offload_dit_to_cpu,
            quantization=self.quantization or NONE,
            compile=self.compile,
            no_limits=True,
            accelerator=accelerator,
        )


class EventWriter:
    """The worker's end, for any thread. One unbuffered write per event: what was sent is out."""

    def __init__(self) -> None:
        self._fd = int(os.environ[EVENTS_FD_VARIABLE])
        self._lock = threading.Lock()  # a pipe keeps lines whole up to 4096 bytes only

    def __call__(self, event: str, **more: Any) -> None:
        line = {"v": VERSION, "event": event, "monotonic_s": time.monotonic()} | more
        with self._lock:
            os.write(self._fd, json.dumps(line).encode() + b"\n")


class EventReader:
    """The supervisor's end: bytes in, whole events out. A line cut short by a kill is dropped.

    `on_event` hears each event as it is read.
    """

    def __init__(self, on_event: Callable[[Event], object] = lambda event: None) -> None:
        self._rest = b""
        self._on_event = on_event
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
                self._on_event(event)
