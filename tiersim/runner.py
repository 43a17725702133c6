"""From a case to its record: resolve, supervise, judge, write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from acestep.gpu_config import GIB
from tiersim.case import REFERENCE_CONTEXT_BYTES, Case, Plan, resolve
from tiersim.record import Cap, Record, Status
from tiersim.supervisor import WORKER, supervise
from tiersim.verdict import Outcome, judge


def run_case(case: Case, *, worker: Sequence[str] = WORKER) -> Record:
    """Run `case` in a fresh capped process and say what happened.

    Every failure of the worker is a record, never an exception. Raises MissingPrerequisite when the case
    names a device or weights that are not here. `worker`: the command that is given the job (for tests).
    """
    plan = resolve(case)
    if plan.skip:
        return _record(case, plan, "skip", plan.skip, {})
    outcome = supervise(plan, worker)
    measured = _measured(plan, outcome)
    status, reason = judge(outcome)
    if status == "ok" and measured["peak_bytes"] > case.tier_gb * GIB:
        status = "host-oom" if plan.device == "cpu" else "oom"
        reason = f"peak {measured['peak_bytes'] / GIB:.2f} GiB is over {case.tier_gb:g} GB"
    return _record(case, plan, status, reason, measured)


def _record(case: Case, plan: Plan, status: Status, reason: str, measured: Mapping[str, Any]) -> Record:
    return Record(
        status=status,
        reason=reason,
        requested=case,
        effective=plan.case,
        tier=plan.config.tier,
        class_gb=plan.config.class_gb,
        device=plan.device,
        adjustments=plan.adjustments,
        lm=plan.lm,
        **measured,
    )


def _measured(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """The part of a record that only a run can fill."""
    hello, cap, result = outcome.last("hello"), outcome.last("cap"), outcome.last("result")
    peak_bytes, peak_source = _peak(plan, outcome)
    return {
        "cap": Cap(cap["kind"], cap["bytes"], cap["verified"]) if cap else None,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
        "phase_reached": outcome.phase_reached,
        "peak_bytes": peak_bytes,
        "peak_source": peak_source,
        "load_peak_bytes": result.get("load_peak_bytes"),
        "generation_peak_bytes": result.get("generation_peak_bytes"),
        "wall_s": result.get("wall_s"),
        "process_s": outcome.process_s,
        "stages_s": result.get("stages_s", {}),
        "environment": {k: hello[k] for k in ("python", "platform") if k in hello}
        | result.get("environment", {}),
        "log": outcome.log,
    }


def _peak(plan: Plan, outcome: Outcome) -> tuple[int | None, str | None]:
    """What counts against the tier: the worker's own reading, else the most the watchdog saw."""
    told = outcome.last("result") or outcome.last("oom")
    measured, source = told.get("generation_peak_bytes"), told.get("peak_source")
    if measured is None:
        return (outcome.rss_peak_bytes, "RSS, sampled") if outcome.rss_peak_bytes else (None, None)
    if plan.device.startswith("cuda"):
        return measured + REFERENCE_CONTEXT_BYTES, f"{source} + {REFERENCE_CONTEXT_BYTES / GIB:g} GiB context"
    return measured, source
