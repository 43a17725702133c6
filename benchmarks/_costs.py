"""Predictions of the commit's engine: the same in every process with the same torch. Part of the worker.

Shapes are the published ones whatever the source of weights, and the card is one card: what a commit changes
is then the only thing that changes.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict
from functools import cache

PROCESSES = 2


@cache
def card():
    """The card of every prediction; its memory is the tier's where there is one."""
    import _matrix
    import _worker

    return _worker.commit_module("harness.cards").find(_matrix.COST_CARD)


def measure(cell) -> dict:
    """The record of a prediction."""
    import _matrix

    return _peak(_matrix, cell) if isinstance(cell, _matrix.PredictedCell) else _stages(_matrix, cell)


def start(cells) -> dict[object, Future]:
    """All of them under way, in two processes that trace each layer once."""
    os.environ["OMP_NUM_THREADS"] = "1"  # nothing is computed
    processes = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"))
    return {cell: processes.submit(measure, cell) for cell in cells}


def _stages(matrix, cell) -> dict:
    """Work by stage of one planned request: nothing of it is the tier's choice."""
    import _worker

    predict = _worker.commit_module("harness.trace.predict").predict
    subject = _worker.commit_module("acestep.subject").SUBJECT
    setup = _worker.commit_module("acestep.setup").Setup.choose(
        matrix.COST_SOURCE,
        dit=matrix.COST_DITS[cell.variant],
        lm=_worker.LM,
        lm_backend="pt",
        quantization="none",
        compile=False,
        offload_to_cpu=False,
        offload_dit_to_cpu=False,
        no_limits=True,
        accelerator=_worker.commit_module("acestep.gpu_config").Accelerator(
            "cuda", card().name, card().memory_gib, simulated=True
        ),
    )
    params, config = _worker.request(cell, None)
    cost = predict(subject, _worker.commit_module("acestep.resolver").resolve(params, config, setup), card())
    if not cost.fits:
        raise RuntimeError(f"does not fit {card().name}: {cost.out_of_memory}")
    return {"stages": {stage.stage: asdict(stage) | stage.work._asdict() for stage in cost.running}}


def _peak(matrix, cell) -> dict:
    """The verdict on one tier."""
    import _worker

    case = _worker.commit_module("tiersim").Case(
        cell.tier_gb,
        source=matrix.COST_SOURCE,
        duration_s=matrix.GUIDE_DURATIONS_S[0],
        variant=cell.variant,
        card=card(),
    )
    return asdict(_worker.commit_module("tiersim.prediction").predict_case(case))
