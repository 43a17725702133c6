"""A case that is predicted: the engine is traced on a card that is not here, by `acestep.costs`.

    from harness.cards import find
    predict_case(Case(8, card=find("rtx4090"))).peak_bytes

Its record has the fields of a run's. Bytes are what the allocator would reserve, and the card's context;
seconds are a roofline, an estimate and not a bound; the cap was never tried, since
nothing was allocated.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.accelerators import Accelerator
from harness.errors import BenchError
from harness.memory import GIB
from harness.trace.cost import LOADING, Cost
from tiersim.case import PREDICTED, Case, Plan, resolve
from tiersim.protocol import Event, Job
from tiersim.record import Cap, Record, Sample
from tiersim.reporter import Reporter
from tiersim.runner import record_of, thinned
from tiersim.verdict import REASON_CHARS

PS = 1e-12


def predict_case(case: Case, on_event: Callable[[Event], object] = lambda event: None) -> Record:
    """What `case` would come to on its card. Whatever goes wrong is a record, as it is of a run.

    The trace is made in this process, one at a time, and imports torch. `on_event` hears how far it is.
    """
    plan = resolve(case)
    if plan.skip:
        return record_of(case, plan, "skip", plan.skip, {})
    started_s = time.monotonic()
    try:
        on_event({"event": "hello"})
        with Reporter(lambda event, **more: on_event({"event": event, **more}), case.steps):
            cost = _cost(plan)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:REASON_CHARS]
        ended = {
            "exit_code": error.exit_code if isinstance(error, BenchError) else None,
            "process_s": time.monotonic() - started_s,
            "log": traceback.format_exc(),
        }
        return record_of(case, plan, "error", reason, ended)
    told = _told(plan, cost) | {"process_s": time.monotonic() - started_s}
    if cost.out_of_memory:
        return record_of(case, plan, "oom", str(cost.out_of_memory), told)
    return record_of(case, plan, "ok", "", told)


def _cost(plan: Plan) -> Cost:
    from acestep import resolver
    from acestep.subject import SUBJECT
    from harness.trace.predict import predict

    assert plan.card is not None
    card = plan.card
    accelerator = Accelerator("cuda", card.name, card.memory_gib, simulated=True, capability=card.capability)
    params, config = plan.case.request()
    setup = Job.of(plan).setup("cuda", accelerator)
    traced = resolver.resolve(params, replace(config, no_limits=True), setup)
    return predict(SUBJECT, traced, card, plan.cap_bytes)


def _told(plan: Plan, cost: Cost) -> dict[str, Any]:
    """The part of a record that a run would have to measure."""
    peaks = {stage.stage: stage.peak_reserved_bytes for stage in cost.stages}
    return {
        "cap": Cap(PREDICTED, plan.cap_bytes),
        "phase_reached": cost.out_of_memory.stage if cost.out_of_memory else "check",
        "peak_bytes": cost.peak_bytes,
        "peak_source": f"predicted, reserved + {plan.context_bytes / GIB:g} GiB context",
        "load_peak_bytes": peaks.get(LOADING),
        "generation_peak_bytes": max((stage.peak_reserved_bytes for stage in cost.running), default=None),
        "wall_s": cost.seconds if cost.fits else None,
        "stages_s": {stage.stage: stage.seconds for stage in cost.running},
        "environment": {**cost.environment, "source": plan.source, "device_name": cost.card.name},
        "counts": cost.counts,
        "fallbacks": cost.fallbacks,
        "timeline": thinned([Sample(s.t_ps * PS, s.stage, s.reserved_bytes) for s in cost.samples]),
        "stage_peaks_bytes": peaks,
    }
