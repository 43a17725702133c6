"""What happened to a case: one frozen record, from which every table and series is read.

`dataclasses.asdict` and `msgspec` both write it; it holds plain values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from acestep.adjustments import Adjustment
from tiersim.case import Case

Status = Literal["ok", "oom", "host-oom", "timeout", "crash", "error", "invalid", "refused", "skip"]


@dataclass(frozen=True, slots=True)
class Cap:
    """The memory limit in force. `verified`: the worker tried to exceed it and was refused."""

    kind: str
    bytes: int
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One case, run or skipped. Bytes are None where nothing was measured.

    `peak_bytes` is what counts against the tier during generation: on cuda the allocator's reserved
    peak plus the reference context, on cpu the resident set's high-water mark. `load_peak_bytes` and
    `generation_peak_bytes` are the plain readings. `wall_s` is the generation, `process_s` the whole
    process. `exit_code` is negative for a signal and None for a skipped case. `log` is the end of the
    worker's output.
    """

    status: Status
    reason: str
    requested: Case
    effective: Case
    tier: str
    class_gb: float
    device: str
    adjustments: tuple[Adjustment, ...]
    lm: str | None
    cap: Cap | None = None
    exit_code: int | None = None
    signal: str | None = None
    phase_reached: str | None = None
    peak_bytes: int | None = None
    peak_source: str | None = None
    load_peak_bytes: int | None = None
    generation_peak_bytes: int | None = None
    wall_s: float | None = None
    process_s: float = 0.0
    stages_s: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
