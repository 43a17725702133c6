"""The worker's modules as they are inside it."""

import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
from places import ROOT

MODULES = (
    "_matrix",
    "_records",
    "commit",
    "turns",
    "ace_step",
    "engine_parity",
    "tiers",
    "cold_start",
    "predictions",
    "any_subject",
    "micro",
    "calls",
    "scaling",
    "streams",
)


@pytest.fixture(scope="session")
def inside():
    """The modules, under the names by which they know each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        patch.syspath_prepend(ROOT / "benchmarks" / "worker")
        modules = {name: import_module(name) for name in MODULES}
    yield SimpleNamespace(**modules)
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture
def here(inside, monkeypatch):
    """The same, measuring the engine that is installed, with tiny weights and every cell."""
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    for name in ("ASV_ENV_DIR", "ACESTEP_BENCH_CELLS"):
        monkeypatch.delenv(name, raising=False)
    return inside
