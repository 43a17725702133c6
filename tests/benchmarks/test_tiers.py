"""Tiers and their boundary, measured by one worker: a case runs once, and one that fails is a result."""

import dataclasses
import math
import threading
from types import SimpleNamespace

import pytest
from readings import read

from benchmarks import _records
from benchmarks.memory import PeakMemTier, TrackTierBoundary


@pytest.mark.parametrize(
    ("record", "peak", "code"),
    [
        ({"status": "ok", "peak_bytes": 7, "exit_code": 0}, 7, 0),
        ({"status": "oom", "peak_bytes": 9, "exit_code": 20}, math.nan, 20),
        ({"status": "crash", "peak_bytes": None, "exit_code": -11}, math.nan, 139),
        ({"status": "skip", "peak_bytes": None, "exit_code": None}, math.nan, math.nan),
    ],
)
def test_a_tier_that_fails_is_a_result(record, peak, code):
    found = read(PeakMemTier, record, 4, True)
    assert found == pytest.approx({"peak": peak, "status": code}, nan_ok=True)


TIERSIM = {
    "__init__.py": "from tiersim.case import Case, run_case",
    "case.py": """
from dataclasses import dataclass

@dataclass(frozen=True)
class Case:
    tier_gb: float
    lm: bool
    variant: str
    source: str
    duration_s: float
    device = "cpu"

    @property
    def key(self):
        return self.tier_gb, self.lm, self.tier_gb < 20 and self.variant

@dataclass(frozen=True)
class Record:
    requested: Case
    status: str
    exit_code: int
    peak_bytes: int

def resolve(case):
    return case

ran = []

def run_case(case):
    assert case.key not in ran, "run twice"
    ran.append(case.key)
    failed = case.variant != "default" and case.tier_gb < 12
    return Record(case, "oom" if failed else "ok", 20 if failed else 0, 7)
""",
    "boundary.py": """
from types import SimpleNamespace

def minima(records):
    for variant in ("no-quant", "no-offload"):
        passed = [r for r in records if r.requested.variant == variant and r.status == "ok"]
        none = variant == "no-offload" and records[0].requested.lm
        yield SimpleNamespace(variant=variant, record=None if none else passed[0])
""",
}


@pytest.fixture
def measure(checkout, tmp_path):
    """From modules of a commit's tiersim to its records of tiers."""

    def measured(*modules):
        checkout()
        package = tmp_path / "env" / "project" / "tiersim"
        package.mkdir()
        for name in modules:
            (package / name).write_text(TIERSIM[name])
        return _records.measure("memory")

    return measured


def test_tiers_and_their_boundary_come_from_one_run(measure):
    records = measure(*TIERSIM)
    assert records["header"]["status"] == "ok"
    assert read(PeakMemTier, records["memory tier_gb=8 lm=True"], 8, True)["peak"] == 7
    assert records["memory tier_gb=8 lm=False variant=no-quant"]["status"] == "oom"
    assert records["memory tier_gb=24 lm=False variant=no-quant"]["requested"]["variant"] == "no-quant"
    boundary = records["boundary variant=no-quant lm=False"]
    assert read(TrackTierBoundary, boundary, "no-quant", False)["minimum"] == 12
    with pytest.raises(RuntimeError, match="no card that was tested"):
        read(TrackTierBoundary, records["boundary variant=no-offload lm=True"], "no-offload", True)


def test_a_commit_without_boundaries_has_no_memory_series(measure):
    records = measure("__init__.py", "case.py")
    with pytest.raises(NotImplementedError, match=r"no tiersim\.boundary"):
        TrackTierBoundary().setup(records, "no-quant", False)


@pytest.mark.parametrize(
    ("source", "device", "at_a_time"),
    [("synthetic-tiny", "cpu", 2), ("synthetic-tiny", "cuda", 1), ("synthetic-full", "cpu", 1)],
)
def test_only_tiny_cases_without_a_card_run_beside_each_other(inside, monkeypatch, source, device, at_a_time):
    running, together = threading.Semaphore(at_a_time), threading.Barrier(at_a_time)

    @dataclasses.dataclass(frozen=True)
    class Record:
        requested: SimpleNamespace

    def run_case(case):
        assert running.acquire(blocking=False), "too many"
        together.wait(timeout=30)
        running.release()
        return Record(case)

    module = SimpleNamespace(
        Case=lambda **fields: SimpleNamespace(**fields),
        resolve=lambda case: SimpleNamespace(key=str(case), device=device),
        run_case=run_case,
    )
    monkeypatch.setattr(inside.tiers, "commit_module", lambda name: module)
    monkeypatch.setenv("ACESTEP_SOURCE", source)
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "dit=turbo")  # an even number
    _, cells, run = inside.tiers.memory()
    tiers = [cell for cell in cells if cell.kind == "memory"]
    assert len(tiers) % at_a_time == 0
    for cell in tiers:
        assert run(cell)["requested"].tier_gb == cell["tier_gb"]
