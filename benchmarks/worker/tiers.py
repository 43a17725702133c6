"""Memory per tier: one generation in a fresh process that may use only so much, and what follows from all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import _matrix as matrix
from commit import commit_module


def memory() -> tuple[dict, list, Callable]:
    """Nothing is loaded here: each case is a process of its own, and none runs twice."""
    tiersim, plans = commit_module("tiersim"), commit_module("tiersim.case")
    boundary = commit_module("tiersim.boundary")
    source = os.environ.get("ACESTEP_SOURCE", "synthetic-tiny")
    tiers, boundaries = matrix.tier_cells(), matrix.boundary_cells()
    shared = {"source": source, "duration_s": matrix.durations_s(source)[0]}
    cases = {
        cell: tiersim.Case(tier_gb=cell["tier_gb"], lm=cell["lm"], variant=cell["variant"], **shared)
        for cell in tiers
    }
    planned = {cell: plans.resolve(case) for cell, case in cases.items()}
    to_run = {plan.key: cases[cell] for cell, plan in planned.items()}
    # Most of a tiny case is imports, on one core. On a card two would take each other's memory.
    on_cpu = all(plan.device == "cpu" for plan in planned.values())
    at_a_time = 2 if on_cpu and source == "synthetic-tiny" else 1
    ran: dict[str, Future] = {}
    records: list = []

    def run(cell) -> dict:
        if cell in boundaries:
            tested = [record for record in records if record.requested.lm == cell["lm"]]
            minimum = next(m for m in boundary.minima(tested) if m.variant == cell["variant"])
            return {"tier_gb": minimum.record and minimum.record.requested.tier_gb}
        key = planned[cell].key
        if key not in ran:
            following = [key for key in to_run if key not in ran][:at_a_time]
            with ThreadPoolExecutor() as threads:
                ran.update({key: threads.submit(tiersim.run_case, to_run[key]) for key in following})
        records.append(dataclasses.replace(ran[key].result(), requested=cases[cell]))
        return dataclasses.asdict(records[-1])

    return {"environment": {"source": source}}, [*tiers, *boundaries], run
