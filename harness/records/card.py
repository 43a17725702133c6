"""What a record has of a card that was simulated: what a tier test says beside the run."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.records.memory import ProcessMemory, Size


class Used(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True):
    """Memory at one moment: seconds since the start, what was being done, bytes."""

    t_s: float
    phase: str
    used_bytes: Size


class TierResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tier test says beside: the card that was simulated, how, and what of it was used.

    Bytes are None where nothing was measured. `peak_bytes` is what counts against the card, its driver's
    share included. `process`: the most of its process, and of that by stage; absent where nothing ran.
    `exit_code` is negative for a signal, None where nothing ran. `log`: the end of the output.
    """

    tier_gb: float
    tier: str
    class_gb: float
    variant: str
    cap: str | None = None
    cap_bytes: Size | None = None
    cap_verified: bool = False
    peak_bytes: Size | None = None
    peak_source: str | None = None
    stage_peaks_bytes: Mapping[str, Size] = {}
    process: ProcessMemory | msgspec.UnsetType = msgspec.UNSET
    stage_processes: Mapping[str, ProcessMemory] | msgspec.UnsetType = msgspec.UNSET
    timeline: tuple[Used, ...] = ()
    phase_reached: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    process_s: float = 0.0
    notes: tuple[str, ...] = ()
    log: str = ""
