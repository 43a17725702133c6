"""The gate: three outcomes, decided from result files with asv's own statistics."""

import math
import sys
from types import SimpleNamespace

import pytest
from asv.benchmarks import Benchmarks
from asv.machine import Machine
from asv.results import Results
from asv.runner import BenchmarkResult
from asv_runner.statistics import compute_stats

from benchmarks.vae import TimeVAEDecode
from scripts.gate import __main__ as gate
from scripts.gate.__main__ import Measured, Series


def measured(median_s, n=12, spread=0.01):
    """What asv stores after `n` samples around `median_s`."""
    samples = [median_s * (1 + spread * (i % 5 - 2) / 2) for i in range(n)]
    value, stats = compute_stats(samples, 1)
    return Measured(value, stats, samples)


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (measured(1.0), measured(1.0), "same"),
        (measured(1.0), measured(1.5), "slower"),
        (measured(1.5), measured(1.0), "faster"),
        (measured(1.0), measured(1.08), "same"),  # significant, and below the factor
        (measured(1.0, spread=1.5), measured(1.3, spread=1.5), "same"),  # above it, and noise
        (measured(1e-4), measured(3e-4), "same"),  # below the floor
        (measured(1.0), Measured(None), "failed"),
        (measured(1.0), Measured(math.nan), "lost"),
        (Measured(math.nan), measured(1.0), "n/a"),
        (Measured(None), measured(1.0), "n/a"),
        (Measured(math.nan), Measured(math.nan), "n/a"),
        (measured(1.0, n=6), measured(1.5, n=6), "few samples"),  # asv never flags 6 against 6
        (measured(1.0, n=3), measured(1.5, n=12), "few samples"),
        (Measured(1.0), Measured(1.5), "few samples"),  # a scalar has none
    ],
)
def test_one_series(base, head, verdict):
    assert gate.judge(base, head, "seconds") == verdict


@pytest.mark.parametrize(
    ("base", "head", "verdict"),
    [
        (1000.0, 1004.0, "same"),
        (1000.0, 1006.0, "slower"),
        (1006.0, 1000.0, "faster"),
        (0.0, 0.0, "same"),
        (0.0, 1.0, "slower"),  # the first time that the host waits for the card
        (1000.0, math.nan, "lost"),
        (1000.0, None, "failed"),
        (math.nan, 1000.0, "n/a"),
    ],
)
def test_what_has_no_noise_needs_no_samples(base, head, verdict):
    assert gate.judge(Measured(base), Measured(head), "bytes", exact=True) == verdict


@pytest.mark.parametrize(("n", "flagged"), [(5, True), (6, False), (7, True), (12, True)])
def test_asv_is_blind_at_six_against_six(n, flagged):
    base, head = measured(1.0, n), measured(1.5, n)
    better = gate.asv_says_better(
        base.value, head.value, (base.stats, base.samples), (head.stats, head.samples), gate.FACTOR
    )
    assert better is flagged


@pytest.mark.parametrize(
    ("verdicts", "outcome", "code"),
    [
        (["same", "faster", "n/a"], "same", 0),
        (["same", "slower"], "slower", 1),
        (["slower", "failed"], "slower", 1),
        (["same", "failed"], "not measured", 2),
        (["same", "lost"], "not measured", 2),
        (["same", "few samples"], "not measured", 2),
        (["n/a"], "not measured", 2),
        ([], "not measured", 2),
    ],
)
def test_the_outcome(verdicts, outcome, code):
    series = [Series("x", "seconds", measured(1.0), measured(1.0), verdict) for verdict in verdicts]
    assert gate.decide(series) == outcome
    assert gate.EXIT[outcome] == code


@pytest.mark.parametrize(
    ("cells", "verdicts"),
    [("duration_s=5 batch=1", ["same"]), ("duration_s=5", ["same", "few samples", "few samples"])],
)
def test_what_an_earlier_run_left_is_not_compared(tmp_path, monkeypatch, cells, verdicts):
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", cells)
    monkeypatch.setenv("ACESTEP_BENCH_SELECTED", "")  # restored afterwards
    conf = SimpleNamespace(results_dir=str(tmp_path), benchmark_dir="benchmarks")
    axes = [[repr(value) for value in axis] for axis in TimeVAEDecode.params]
    name, count = "vae.TimeVAEDecode.track_vae_decode", math.prod(map(len, axes))
    benchmark = {"name": name, "params": axes, "unit": "seconds", "version": TimeVAEDecode.version}
    Benchmarks(conf, [benchmark]).save()
    machine = Machine()
    machine.machine = "here"
    machine.save(conf.results_dir)
    samples = [[1.0, 1.1] * 6] + [[1.0]] * (count - 1)  # batch 1 of the shortest, and the rest
    measured = BenchmarkResult([True] * count, samples, [1] * count, 0, "", None)
    for commit in ("base", "head"):
        source = {"ACESTEP_SOURCE": "synthetic-tiny"}
        result = Results({"machine": "here"}, {}, commit, 0, "3.11", "checkout", source)
        result.add_result(benchmark, measured, record_samples=True)
        result.save(conf.results_dir)
    assert [one.verdict for one in gate.compare(conf, "here", "base", "head", 0)] == verdicts


@pytest.fixture
def only_dit(narrow):
    """The same with two benchmarks: how a gate ends does not depend on how many it runs."""
    for module in (narrow.path / "benchmarks").glob("[a-z]*.py"):
        if module.name not in ("common.py", "dit.py"):
            module.unlink()
    narrow.commit("Measure the DiT alone", None)
    return narrow


def run_gate(history, engine):
    """Between the last commit and one of `engine`."""
    history.commit("Change the engine", engine + "# a change\n")
    return history.run(sys.executable, "-m", "scripts.gate", "HEAD~1", "HEAD", check=False)


@pytest.mark.timeout(300)
def test_the_whole_path_on_a_seeded_change(narrow, tmp_path):
    narrow.environ["GITHUB_STEP_SUMMARY"] = str(tmp_path / "summary.md")
    done = run_gate(narrow, narrow.engine.replace("SLOWER = 1.0", "SLOWER = 1.5"))
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ") and "`" in line]
    assert all(row.startswith("| slower") for row in rows), rows  # nothing failed, nothing got lost
    diffusing = {"TimeDiT", "TimeGenerate", "TrackStages", "TimeTask", "TrackTaskStages", "TimeSolver"}
    assert {row.split("`")[1].split(".")[1].split("(")[0] for row in rows} == diffusing
    assert (tmp_path / "summary.md").read_text() in done.stdout


@pytest.mark.timeout(300)
def test_a_change_that_costs_nothing_is_the_same(only_dit):
    done = run_gate(only_dit, only_dit.engine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| slower" not in done.stdout and "**same**" in done.stdout


@pytest.mark.timeout(300)
def test_an_engine_that_broke_is_not_measured(only_dit):
    done = run_gate(only_dit, only_dit.engine + "raise RuntimeError('broken')\n")
    assert done.returncode == 2, done.stdout + done.stderr


def test_a_commit_is_not_compared_with_itself(narrow):
    done = narrow.run(sys.executable, "-m", "scripts.gate", "HEAD", "HEAD", check=False)
    assert (done.returncode, done.stdout) == (2, "")
