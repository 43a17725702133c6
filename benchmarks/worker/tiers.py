"""Memory per tier: one generation in a fresh process that may use only so much, and what follows from all."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import _matrix as matrix
from commit import Unsupported, commit_module


def choices(cell) -> dict:
    """What a case of a cell chooses, for `tiersim.Case`. Raises Unsupported where cases have no choice."""
    if cell["dit"] == matrix.DITS[0]:
        return {}
    if "choices" not in inspect.signature(commit_module("tiersim").Case).parameters:
        raise Unsupported("this commit tests one DiT")
    return {"choices": (("dit", matrix.COST_DITS[cell["dit"]]),)}


def memory() -> tuple[dict, list, Callable]:
    """Nothing is loaded here: each case is a process of its own, and none runs twice."""
    tiersim, plans = commit_module("tiersim"), commit_module("tiersim.case")
    boundary = commit_module("tiersim.boundary")
    source = os.environ.get("ACESTEP_SOURCE", "synthetic-tiny")
    tiers, boundaries = matrix.tier_cells(source), matrix.boundary_cells(source)
    shared = {"source": source, "duration_s": matrix.durations_s(source)[0]}
    cases = {}
    for cell in tiers:
        with suppress(Unsupported):  # told of the cell when its turn comes
            fields = {name: cell[name] for name in ("tier_gb", "lm", "variant")} | choices(cell)
            cases[cell] = tiersim.Case(**fields, **shared)
    planned = {cell: plans.resolve(case) for cell, case in cases.items()}
    to_run = {plan.key: cases[cell] for cell, plan in planned.items()}
    # Most of a tiny case is imports, on one core. On a card two would take each other's memory.
    on_cpu = all(plan.device == "cpu" for plan in planned.values())
    at_a_time = 2 if on_cpu and source == "synthetic-tiny" else 1
    futures: dict[str, Future] = {}
    records: dict = {}

    def run(cell) -> dict:
        if cell in boundaries:
            alike = [(of["lm"], of["dit"]) == (cell["lm"], cell["dit"]) for of in records]
            tested = list(itertools.compress(records.values(), alike))
            choices(cell)
            minimum = next(m for m in boundary.minima(tested) if m.variant == cell["variant"])
            proven = getattr(minimum, "proven", None)  # else the minimum is at most that
            return {"tier_gb": minimum.record and minimum.record.requested.tier_gb, "proven": proven}
        choices(cell)
        key = planned[cell].key
        if key not in futures:
            following = [key for key in to_run if key not in futures][:at_a_time]
            with ThreadPoolExecutor() as threads:
                futures.update({key: threads.submit(tiersim.run_case, to_run[key]) for key in following})
        records[cell] = dataclasses.replace(futures[key].result(), requested=cases[cell])
        return dataclasses.asdict(records[cell])

    return {"environment": {"source": source}}, [*tiers, *boundaries], run
