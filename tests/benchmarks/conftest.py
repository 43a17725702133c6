"""The worker's modules as they are inside it."""

import sys
from types import SimpleNamespace

import pytest
from places import ROOT


@pytest.fixture(scope="session")
def inside():
    """The modules, under the names by which they know each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import _cold
        import _costs
        import _matrix
        import _parity
        import _worker
    yield SimpleNamespace(matrix=_matrix, parity=_parity, worker=_worker, cold=_cold, costs=_costs)
    for module in (_cold, _costs, _matrix, _parity, _worker):
        del sys.modules[module.__name__]


@pytest.fixture
def here(inside, monkeypatch):
    """The same, measuring the engine that is installed, with tiny weights and every cell."""
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    for name in ("ASV_ENV_DIR", "ACESTEP_BENCH_CELLS"):
        monkeypatch.delenv(name, raising=False)
    return inside
