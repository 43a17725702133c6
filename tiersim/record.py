"""The record of a case: one frozen value, from which every table and series is read.

`dataclasses.asdict` and `msgspec` both write it; it holds plain values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.adjustments import Adjustment, Fallback
from harness.records.memory import ProcessMemory
from harness.records.status import Status
from harness.records.telemetry import Telemetry
from tiersim.case import Case


@dataclass(frozen=True, slots=True)
class Cap:
    """The memory limit in force. `verified`: the worker tried to exceed it and was refused."""

    kind: str
    bytes: int
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment of a run: seconds since its start, what it was doing, bytes of the capped kind."""

    t_s: float
    phase: str
    used_bytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """One case, run or skipped. Bytes are None where nothing was measured.

    `key` names what ran (`Plan.key`). `quantization` and what follows is the plan; what was read back from
    the engine is in `environment` and `fallbacks`.

    `peak_bytes` is what counts against the tier during generation: of a card, real, simulated or predicted,
    its peak and a context, under the cap `host` the resident set's high-water mark. `load_peak_bytes` and
    `generation_peak_bytes` are the plain readings. `process`: the most that host and driver counted of the
    worker, by stage, too; `telemetry`: of its card, None without one. `wall_s` is the generation,
    `process_s` the whole process. `exit_code` is negative for a signal and None for a skipped case. `log` is
    the end of the worker's output, `exception` what it raised where `reason` says that in other words.
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
    notes: tuple[str, ...] = ()
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
    key: str = ""
    lm_backend: str = ""
    offload_to_cpu: bool = False
    offload_dit_to_cpu: bool = False
    quantization: str | None = None
    compile: bool = False
    graphs: bool = False
    timeline: tuple[Sample, ...] = ()
    stage_peaks_bytes: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int | float] = field(default_factory=dict)
    fallbacks: tuple[Fallback, ...] = ()
    lm_quantization: str | None = None
    process: ProcessMemory | None = None
    stage_processes: Mapping[str, ProcessMemory] = field(default_factory=dict)
    telemetry: Telemetry | None = None
    exception: str = ""

    @property
    def failed(self) -> bool:
        """Whether it ran and did not pass."""
        return self.status not in ("ok", "skip")

    @property
    def unknown(self) -> bool:
        """Whether it says nothing of the memory it needs: it did not run, or ended for another reason."""
        return self.status not in ("ok", "oom", "host-oom")
