"""Predictions of the commit's engine: the same in every process with the same torch. Part of the worker.

Shapes are the published ones whatever the source of weights, and the card is one card: what a commit changes
is then the only thing that changes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version

import _matrix as matrix
import _records
import ace_step
import any_subject
import tiers
from commit import Unsupported, commit_module

PROCESSES = 2


@cache
def card():
    """The card of every prediction; its memory is the tier's where there is one."""
    return commit_module("harness.cards").find(matrix.COST_CARD)


def costs() -> tuple[dict, list, Callable]:
    """All of them under way, in two processes that trace each layer once. Nothing is loaded or computed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    cells = matrix.predicted_cells()
    processes = ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn"))
    under_way = {cell: processes.submit(measure, cell) for cell in cells}
    facts = {"environment": {"source": matrix.COST_SOURCE}, "torch": version("torch").partition("+")[0]}
    facts |= {"worker": _records.digest()}
    return facts, cells, lambda cell: under_way[cell].result()


def measure(cell) -> dict:
    """The record of a prediction."""
    if "subject" in dict(cell.params):
        return _subject_stages(cell) if cell.kind == "cost" else _subject_peak(cell)
    kinds = {"predicted": _peak, "waits": _waits, "cost": _stages}
    return kinds[cell.kind](cell)


def _stages(cell) -> dict:
    """Work by stage of one planned request: nothing of it is the tier's choice."""
    cost = _cost(cell, matrix.COST_SOURCE, _planned(cell["duration_s"], cell["batch"], matrix.STEPS[0]))
    return {"stages": _by_stage(cost)}


def _by_stage(cost) -> dict:
    return {stage.stage: asdict(stage) | stage.work._asdict() for stage in cost.running}


def _waits(cell) -> dict:
    """Reads and copies of two planned requests, by stage and line. Tiny weights wait as large ones do; bpm is
    left open, so that something is thought."""
    if "reads" not in commit_module("harness.trace.cost").StageCost.__dataclass_fields__:
        raise Unsupported("this commit does not count copies over the link")
    requests = []
    for duration_s, steps in matrix.WAITS_SIZES:
        request = _planned(duration_s, matrix.WAITS_BATCHES[cell["variant"]], steps, bpm=None)
        cost = _cost(cell, matrix.TINY, request)
        lines = {way: {one.stage: getattr(one, way) for one in cost.running} for way in ("reads", "copies")}
        requests.append(lines | {"counts": cost.counts})
    return {"requests": requests}


def _planned(duration_s: int, batch: int, steps: int, **music):
    """A request whose codes are planned; `music`: its fields that are not every cell's."""
    size = {"duration_s": duration_s, "batch": batch, "thinking": True, "steps": steps}
    return ace_step.request(matrix.cell("generate", **size), None, **music)


def _cost(cell, source: str, request):
    """The prediction of a request, by what runs a cell. Raises RuntimeError where it does not fit."""
    predict = commit_module("harness.trace.predict").predict
    subject = commit_module("acestep.subject").SUBJECT
    cost = predict(subject, subject.resolve(request, _setup(subject, cell, source)), card())
    if not cost.fits:
        raise RuntimeError(f"does not fit {card().name}: {cost.out_of_memory}")
    return cost


def _setup(subject, cell, source: str):
    """What runs a cell, whether or not this machine could compile for the card. Raises Unsupported where the
    commit captures nothing."""
    captured = cell["mode"] != matrix.COST_MODES[0]
    setup = subject.setup(
        source=source,
        dit=matrix.COST_DITS[cell["variant"]],
        lm=ace_step.LM,
        lm_backend="pt",
        quantization="none",
        compile=False,
        offload_to_cpu=False,
        offload_dit_to_cpu=False,
        no_limits=True,
        accelerator=commit_module("harness.accelerators").Accelerator(
            "cuda", card().name, card().memory_gib, simulated=True
        ),
    )
    if not hasattr(setup, "graphs"):  # of a commit before there were any
        if captured:
            raise Unsupported("this commit captures no steps")
        return setup
    return replace(setup, graphs=captured, compile="compiled" in cell["mode"])


def _subject_stages(cell) -> dict:
    """Work by stage of a short request, and how many launches the last frame of it is, where one is named."""
    costs = [_subject_cost(cell, length, card()) for length in matrix.PREDICTED_S[cell["subject"]]]
    for cost in costs:
        if not cost.fits:
            raise RuntimeError(f"does not fit {card().name}: {cost.out_of_memory}")
    before, stages = _by_stage(costs[0]), _by_stage(costs[-1])
    frame = {name: stage["launches"] - before[name]["launches"] for name, stage in stages.items()}
    return {"stages": stages, "frame_launches": {name: count for name, count in frame.items() if count}}


def _subject_peak(cell) -> dict:
    """What such a request would have to hold of a card of a size, and whether that is too much."""
    small = replace(card(), memory_gib=float(cell["tier_gb"]))
    cost = _subject_cost(cell, matrix.PREDICTED_S[cell["subject"]][-1], small)
    return {"status": "ok" if cost.fits else "oom", "peak_bytes": cost.peak_bytes}


def _subject_cost(cell, duration_s: float, card):
    """The prediction of a subject's request of so long on `card`."""
    subject = any_subject.of_commit(cell["subject"])
    accelerator = commit_module("harness.accelerators").Accelerator(
        "cuda", card.name, card.memory_gib, capability=card.capability, simulated=True
    )
    setup = subject.setup(source=matrix.COST_SOURCE, model=cell["model"], accelerator=accelerator)
    if cell.kind == "cost" and hasattr(setup, "graphs"):
        setup = replace(setup, graphs=cell["mode"] != matrix.COST_MODES[0])
    plan = subject.resolve(subject.request(duration_s), setup)
    return commit_module("harness.trace.predict").predict(subject, plan, card)


def _peak(cell) -> dict:
    """The verdict on one tier."""
    case = commit_module("tiersim").Case(
        cell["tier_gb"],
        source=matrix.COST_SOURCE,
        duration_s=matrix.GUIDE_DURATIONS_S[0],
        variant=cell["variant"],
        card=card(),
        **tiers.choices(cell),
    )
    return asdict(commit_module("tiersim.prediction").predict_case(case))
