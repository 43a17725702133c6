"""Running a plan: supervise a worker, judge how it ended, and return the record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType
from typing import Any

from harness.errors import UsageError
from harness.memory import GIB
from harness.records.memory import ProcessMemory
from tiersim.case import Case, Plan, resolve
from tiersim.events import Event
from tiersim.journal import thinned
from tiersim.record import Cap, Record, Status
from tiersim.supervisor import WORKER, supervise
from tiersim.verdict import Outcome, judge, raised


def run_case(case: Case, **options: Any) -> Record:
    """Resolve `case` and run it: `run_plan` says how, and with which `options`.

    Raises MissingPrerequisite when the case names a device or weights that are not here, UsageError when it
    names a card, and Cancelled once `cancelled` is set.
    """
    if case.card:
        raise UsageError("card: is there to predict for; use tiersim.prediction, or drop it to run the case")
    return run_plan(resolve(case), **options)


def run_plan(
    plan: Plan,
    *,
    worker: Sequence[str] = WORKER,
    environ: Mapping[str, str] = MappingProxyType({}),
    on_event: Callable[[Event], object] = lambda event: None,
    cancelled: threading.Event | None = None,
) -> Record:
    """Run `plan` in a fresh capped process and say what happened.

    Every failure of the worker is a record, never an exception. `worker`: the command that is given the job
    (for tests). `environ`: for the worker, over what it inherits. `on_event` is called with its events.
    Raises Cancelled once `cancelled` is set.
    """
    if plan.skip:
        return record_of(plan, "skip", plan.skip, {})
    outcome = supervise(plan, worker, environ=environ, on_event=on_event, cancelled=cancelled)
    status, reason = judge(outcome, int(plan.requested.tier_gb * GIB))
    measured = _measured(plan, outcome) | {"exception": raised(outcome, status)}
    if status == "ok" and (excess := _excess(plan, measured)):
        status, reason = "host-oom" if plan.cap_kind == "host" else "oom", excess
    refused = outcome.journal.refused
    notes = [f"{refused} of the lines that the worker sent were no events"] if refused else []
    return record_of(plan, status, reason, measured, notes)


def _excess(plan: Plan, measured: Mapping[str, Any]) -> str:
    """In what a case that passed was larger than its card all the same; empty where it was not.

    The cap is on the allocator alone: context and libraries may be larger than what was set aside for them.
    """
    tier_gb, process = plan.requested.tier_gb, measured["process"]
    if measured["peak_bytes"] > tier_gb * GIB:
        return f"peak {measured['peak_bytes'] / GIB:.2f} GiB is over {tier_gb:g} GB"
    if process and (process.driver_peak_bytes or 0) > tier_gb * GIB:
        return f"the driver counts {process.driver_peak_bytes / GIB:.2f} GiB, over {tier_gb:g} GB"
    if process and process.spilled_bytes:
        return f"{process.spilled_bytes / GIB:.2f} GiB of it spilled into the host's memory"
    return ""


def record_of(
    plan: Plan, status: Status, reason: str, measured: Mapping[str, Any], notes: Sequence[str] = ()
) -> Record:
    """The record of `plan`. `measured`: the fields that a plan does not know; `notes`: besides its own."""
    settings = plan.settings
    return Record(
        status=status,
        reason=reason,
        requested=plan.requested,
        effective=plan.effective,
        tier=plan.tier.name,
        class_gb=plan.tier.class_gb,
        device=plan.device,
        adjustments=plan.adjustments,
        notes=(*plan.notes, *notes),
        key=plan.key,
        lm=settings.lm,
        lm_backend=settings.lm_backend,
        offload_to_cpu=settings.offload_to_cpu,
        offload_dit_to_cpu=settings.offload_dit_to_cpu,
        quantization=settings.quantization,
        lm_quantization=settings.lm_quantization,
        compile=settings.compile,
        graphs=settings.graphs,
        **measured,
    )


def _measured(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """The part of a record that only a run can fill."""
    hello, cap, result = outcome.last("hello"), outcome.last("cap"), outcome.last("result")
    ending = result or outcome.last("oom")
    peak_bytes, peak_source = _peak(plan, outcome)
    processes = outcome.journal.stage_processes
    return {
        "cap": Cap(cap["kind"], cap["bytes"], cap["verified"]) if cap else None,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "phase_reached": outcome.phase_reached,
        "peak_bytes": peak_bytes,
        "peak_source": peak_source,
        "load_peak_bytes": ending.get("load_peak_bytes"),
        "generation_peak_bytes": ending.get("generation_peak_bytes"),
        "wall_s": result.get("wall_s"),
        "process_s": outcome.process_s,
        "stages_s": result.get("stages_s", {}),
        "environment": {k: hello[k] for k in ("python", "platform") if k in hello}
        | result.get("environment", {}),
        "counts": result.get("counts", {}),
        "fallbacks": tuple(result.get("fallbacks", ())),
        "timeline": thinned(outcome.journal.samples),
        "stage_peaks_bytes": outcome.journal.stage_peaks,
        "process": reduce(ProcessMemory.most, processes.values()) if processes else None,
        "stage_processes": processes,
        "telemetry": result.get("telemetry"),
        "log": outcome.log,
    }


def _peak(plan: Plan, outcome: Outcome) -> tuple[int | None, str | None]:
    """What counts against the tier: the worker's own reading, else the most the watchdog saw.

    Whoever ran out of memory while loading never generated, and its peak is that of loading.
    """
    ending = outcome.last("result") or outcome.last("oom")
    measured, source = ending.get("generation_peak_bytes"), ending.get("peak_source")
    if measured is None:
        measured = ending.get("load_peak_bytes")
    if measured is None:
        seen = outcome.rss_peak_bytes if plan.cap_kind == "host" else 0
        return (seen, "RSS, sampled") if seen else (None, None)
    if plan.context_bytes:
        return measured + plan.context_bytes, f"{source} + {plan.context_bytes / GIB:g} GiB context"
    return measured, source
