"""Prediction of a case: the engine is traced on a card that is not here, operator by
operator (`harness.trace`).

    from harness.cards import find
    predict_case(Case(8, card=find("rtx4090"))).peak_bytes

Its record has the fields of a run's. Bytes are what the allocator would reserve, and the card's context;
seconds are a roofline, an estimate and not a bound; the cap was never tried, since
nothing was allocated.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from operator import attrgetter
from typing import Any

from harness.errors import BenchError
from harness.memory import GIB
from harness.oom import classify, in_words
from harness.trace.cost import LOADING, Cost
from tiersim.case import PREDICTED, Case, Plan, resolve, subject_of
from tiersim.events import Event
from tiersim.journal import SAMPLES, thinned
from tiersim.record import Cap, Record, Sample
from tiersim.run import record_of
from tiersim.telemetry import Reporter
from tiersim.verdict import REASON_CHARS

PS = 1e-12


def predict_case(case: Case, on_event: Callable[[Event], object] = lambda event: None) -> Record:
    """Resolve `case`, which names a card, and predict it as `predict_plan` does."""
    return predict_plan(resolve(case), on_event)


def predict_plan(plan: Plan, on_event: Callable[[Event], object] = lambda event: None) -> Record:
    """What `plan` would come to on its card. Whatever goes wrong is a record, as it is of a run.

    The trace is made in this process, one at a time, and imports torch. `on_event` is told how far it is.
    """
    if plan.skip:
        return record_of(plan, "skip", plan.skip, {})
    started_s = time.monotonic()
    try:
        on_event({"event": "hello"})
        with Reporter(lambda event, **more: on_event({"event": event, **more}), plan.requested.steps):
            cost = _cost(plan)
    except Exception as error:
        failed = classify(error)
        reason = failed.words if failed.kind != "other" else f"{failed.error}: {' '.join(str(error).split())}"
        failure = {
            "exit_code": error.exit_code if isinstance(error, BenchError) else None,
            "process_s": time.monotonic() - started_s,
            "log": traceback.format_exc(),
        }
        return record_of(plan, "error", reason[:REASON_CHARS], failure)
    figures = _figures(plan, cost) | {"process_s": time.monotonic() - started_s}
    if ended := cost.ended:
        card_bytes = int(plan.requested.tier_gb * GIB)
        reason = in_words("device", ended.segment_bytes, ended.free_bytes, card_bytes, ended.stage)
        return record_of(plan, "oom", reason, figures | {"exception": str(ended)})
    return record_of(plan, "ok", "", figures)


def _cost(plan: Plan) -> Cost:
    from harness.trace.predict import predict

    assert plan.card is not None
    beside = [plan.card] * plan.beside
    return predict(subject_of(plan.requested), plan.engine_plan, plan.card, plan.cap_bytes, beside=beside)


def _figures(plan: Plan, cost: Cost) -> dict[str, Any]:
    """The part of a record that a run would have to measure."""
    fullest = max(cost.books.values(), key=lambda book: book.peak_reserved_bytes)
    peaks = {stage.stage: stage.peak_reserved_bytes for stage in fullest.stages}
    books = cost.books.items() if cost.beside else ()
    return {
        "cap": Cap(PREDICTED, plan.cap_bytes),
        "phase_reached": cost.ended.stage if cost.ended else "check",
        "peak_bytes": fullest.peak_bytes,
        "peak_source": f"predicted, reserved + {plan.context_bytes / GIB:g} GiB context",
        "load_peak_bytes": peaks.get(LOADING),
        "generation_peak_bytes": max((stage.peak_reserved_bytes for stage in fullest.running), default=None),
        "wall_s": sum(cost.stages_s.values()) if cost.fits else None,
        "stages_s": cost.stages_s,
        "environment": {
            **cost.environment,
            "source": plan.source,
            "device_name": cost.card.name,
            **{f"peak_bytes_{device}": book.peak_bytes for device, book in books},
        },
        "counts": cost.counts,
        "fallbacks": cost.fallbacks,
        "timeline": timeline([Sample(s.t_ps * PS, s.stage, s.reserved_bytes) for s in fullest.samples]),
        "stage_peaks_bytes": peaks,
    }


def timeline(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """About as many of `samples` as a record has, and of each stage one at least, however few it has."""
    stages = [list(run) for _, run in groupby(samples, key=attrgetter("phase"))]
    shares = [math.ceil(SAMPLES * len(run) / len(samples)) for run in stages]
    return tuple(chain.from_iterable(map(thinned, stages, shares)))
