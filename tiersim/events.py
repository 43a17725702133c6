"""Events of a worker: the schema of each kind, against which every line is held where it is read.

    hello     who runs
    cap       the limit in force
    phase     what begins, the memory in use, and of the phase that ended with it the peak and its process
    progress  a step, a tile, a token: `i` of `n`, where n is known
    hb        the interpreter still turns; no progress by itself
    result, oom, error    one of them, last

What a worker sends is data: it may be torn, forged, or come from code that has gone astray. A line that does
not conform is no event. Whoever has an event may rely on its fields, their types and their ranges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from harness.adjustments import Fallback
from harness.records.memory import ProcessMemory
from harness.records.telemetry import Telemetry

VERSION = 1

Event = Mapping[str, Any]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Bytes = Annotated[int, Meta(ge=0, le=2**50)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Remainder = Annotated[float, Meta(ge=-1e-3, le=1e9)]  # seconds; a difference of sums rounds below zero, too
Count = Annotated[int, Meta(ge=0, le=2**53)]
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # bytes that need not be there
Amount = Count | Annotated[float, Meta(ge=0, le=1e18)]


class _Event(TypedDict):
    v: Literal[1]
    monotonic_s: Seconds  # on the clock of the machine
    used_bytes: NotRequired[Bytes]  # of the capped kind, now
    ended_peak_bytes: NotRequired[Bytes]  # of the phase that ends here
    ended_process: NotRequired[ProcessMemory]  # at its end


class Hello(_Event):
    event: Literal["hello"]
    pid: Count
    python: str
    platform: str


class Cap(_Event):
    event: Literal["cap"]
    kind: Name
    bytes: Bytes
    verified: bool


class Phase(_Event):
    event: Literal["phase"]
    name: Name


class Progress(_Event):
    event: Literal["progress"]
    phase: Name
    i: Count
    n: Count | None


class Heartbeat(_Event):
    event: Literal["hb"]


class Result(_Event):
    event: Literal["result"]
    wall_s: Seconds
    stages_s: dict[Name, Remainder]
    generation_peak_bytes: Bytes
    load_peak_bytes: NotRequired[Bytes]
    peak_source: str
    counts: NotRequired[dict[Name, Amount]]
    fallbacks: NotRequired[list[Fallback]]
    environment: NotRequired[dict[Name, str | bool | Whole | float | None]]
    telemetry: NotRequired[Telemetry]


class Failure(_Event):
    kind: NotRequired[str]
    error: str
    message: str
    requested_bytes: NotRequired[Size | None]
    free_bytes: NotRequired[Size | None]
    total_bytes: NotRequired[Size | None]
    generation_peak_bytes: NotRequired[Bytes | None]  # None: it never came to that
    load_peak_bytes: NotRequired[Bytes]
    peak_source: NotRequired[str]


class OutOfMemory(Failure):
    event: Literal["oom"]


class Error(Failure):
    event: Literal["error"]


KINDS: Mapping[str, type] = {
    "hello": Hello, "cap": Cap, "phase": Phase, "progress": Progress, "hb": Heartbeat, "result": Result,
    "oom": OutOfMemory, "error": Error,
}  # fmt: skip


class _Kind(msgspec.Struct):
    event: str


_kind = msgspec.json.Decoder(_Kind)
_decoders = {name: msgspec.json.Decoder(schema) for name, schema in KINDS.items()}


def parse(line: bytes) -> Event | None:
    """The event that `line` is, with the fields of its kind; None for what is none."""
    try:
        return _decoders[_kind.decode(line).event].decode(line)
    except (ValueError, KeyError, RecursionError):
        return None
