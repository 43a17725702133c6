"""The protocol between worker and supervisor: exit codes, and events as JSON lines on a private pipe.

The pipe is inherited by number (TIERSIM_EVENTS_FD); standard output is never parsed, so a library that
prints cannot forge or tear an event. `events` has the schema of each.

An exit with code 0 counts only together with a `result`.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import msgspec

from harness.tiers import tier_subject
from tiersim.case import CapKind, Plan
from tiersim.events import VERSION

EVENTS_FD_VARIABLE = "TIERSIM_EVENTS_FD"


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
    """The task of a worker, as JSON in a file that it inherits: the plan it runs as it is, and the cap.

    Lyrics may be longer than the one argument that Linux passes on: 128 KiB.

    `plan`: of `subject`, with its setup. `steps`: how many its progress is told of.
    `beside`: how many cards there are besides, each with the same cap.
    """

    subject: str
    plan: Any
    steps: int
    device: str
    cap_kind: CapKind
    cap_bytes: int
    beside: int = 0

    @classmethod
    def of(cls, plan: Plan) -> Job:
        return cls(
            subject=plan.requested.subject,
            plan=plan.engine_plan,
            steps=plan.requested.steps,
            device=plan.device,
            cap_kind=plan.cap_kind,
            cap_bytes=plan.cap_bytes,
            beside=plan.beside,
        )

    @classmethod
    def decode(cls, text: str) -> Job:
        """Raises msgspec.ValidationError for what is no job, UsageError for values that no plan can have."""
        job = msgspec.convert(json.loads(text), cls)
        return replace(job, plan=msgspec.convert(job.plan, tier_subject(job.subject).plan_type))

    @classmethod
    def receive(cls, descriptor: str) -> Job:
        """Of the open file whose number is the worker's argument. Raises as `decode` does."""
        with os.fdopen(int(descriptor), encoding="ascii") as file:
            return cls.decode(file.read())

    def encode(self) -> str:
        return json.dumps(msgspec.to_builtins(self))  # msgspec's own JSON has no infinity, a limit may be one


class EventWriter:
    """The worker's end, for any thread. Nothing is buffered: what was sent is out.

    Half a character, as a file's name may have one, has no place in JSON and becomes a question mark.
    """

    def __init__(self) -> None:
        self._fd = int(os.environ[EVENTS_FD_VARIABLE])
        self._lock = threading.Lock()  # a pipe keeps lines whole up to 4096 bytes only

    def __call__(self, event: str, **more: Any) -> None:
        line = {"v": VERSION, "event": event, "monotonic_s": time.monotonic()} | more
        data = json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n"
        with self._lock:
            while data:  # a signal, as the request for a stack dump, cuts a long write short
                data = data[os.write(self._fd, data) :]
