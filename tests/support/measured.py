"""A history by hand: two machines, eight commits, and series whose values are those of the test."""

import math

from scripts.changes import report
from scripts.changes.history import Commit, History, Machine, Series
from scripts.site.page import Site

COMMITS = [Commit(f"{at:x}" * 40, f"2026-01-{at + 1:02}T00:00:00+00:00", f"Commit {at}") for at in range(8)]
DAY_MS = 86_400_000
CPU = {"machine": "a-cpu", "gpu": "none", "vram": "none"}
CARD = {"machine": "rtx", "gpu": "NVIDIA GeForce RTX 4090", "vram": "24 GiB"}
TINY, FULL = (f"checkout-ACESTEP_SOURCE{name}" for name in ("synthetic-tiny", "synthetic-full"))


def series(benchmark, values, stage="diffuse", unit="seconds", **facts):
    """One with `values` of the last commits; parameters are `params`, else the stage."""
    padded = [math.nan] * (len(COMMITS) - len(values)) + list(values)
    params = {name: str(value) for name, value in facts.pop("params", {"stage": stage}).items()}
    name = f"{benchmark}({', '.join(params.values())})"
    exact = benchmark.startswith("costs.")
    return Series(name, stage, "DiT", unit, exact, padded, benchmark=benchmark, params=params, **facts)


def machine(facts, *ones, environment=TINY):
    """One that measured every commit."""
    measured = {at: (1 + at) * DAY_MS for at in range(len(COMMITS))}
    return Machine(facts, environment, measured, series=list(ones))


def site(monkeypatch, *machines):
    """The site of a history in which every commit changes code."""
    monkeypatch.setattr(report, "code_differs", lambda before, after: True)
    return Site(History(COMMITS, list(machines), 0, []), 9 * DAY_MS / 1e3)
