"""Predicted series: exact, of published shapes, read again for a commit that was predicted before."""

import itertools
import json
import math
from shutil import copytree

import pytest

from benchmarks import _records, costs
from benchmarks._matrix import cell, predicted_cells
from tiersim.protocol import Exit


@pytest.fixture(scope="module")
def one(inside):
    """The records of one generation and of one tier."""
    cells = [cell("cost", variant="turbo", duration_s=30, batch=1)]
    cells += [cell("predicted", tier_gb=4, variant=variant) for variant in ("no-quant", "no-offload")]
    records = {cell.name: {"status": "ok"} | inside.predictions.measure(cell) for cell in cells}
    header = {"status": "ok", "source": "synthetic-full"}
    return json.loads(json.dumps({"header": header} | records))  # as a reader of the file finds them


def test_every_cell_of_the_series_is_planned():
    planned = {cell.name for cell in predicted_cells()}
    work, peak = costs.TrackCost(), costs.TrackPredictedPeak()
    assert {peak.cell(*values).name for values in itertools.product(*peak.params)} <= planned
    stages, durations_s, batches, dits, modes = work.params
    eager = itertools.product(durations_s, batches, dits, modes[:1])
    for values in [*eager, *itertools.product(durations_s, batches[:1], dits[:1], modes)]:
        assert work.cell(stages[0], *values).name in planned


def test_an_eager_cell_has_the_name_it_had_before_there_were_modes():
    assert costs.TrackCost().cell("post", 30, 1, "turbo", "eager").name == (
        "cost variant=turbo duration_s=30 batch=1"
    )


@pytest.mark.parametrize("stage", costs.TrackCost.params[0])
def test_work_is_in_whole_numbers(one, stage):
    suite = costs.TrackCost()
    suite.setup(one, stage, 30, 1, "turbo", "eager")
    values = [suite.track_flop(), suite.track_traffic(), suite.track_launches(), suite.track_syncs()]
    assert all(isinstance(value, int) and value >= 0 for value in values)
    assert suite.track_kernels() == suite.track_launches() > 0
    del suite.work["kernels"]
    assert math.isnan(suite.track_kernels())  # of a commit before


def test_steps_are_never_waited_for(one):
    suite = costs.TrackCost()
    for stage in ("lm_decode", "diffuse"):
        suite.setup(one, stage, 30, 1, "turbo", "eager")
        assert suite.track_syncs() == 0, stage


def test_what_does_not_fit_is_a_loss_and_what_is_not_tried_is_not(one):
    suite = costs.TrackPredictedPeak()
    suite.setup(one, 4, "no-quant")
    assert suite.track_status() == Exit.DEVICE_OOM == costs.OUT_OF_MEMORY
    assert math.isnan(suite.track_peak())
    suite.setup(one, 4, "no-offload")
    assert math.isnan(suite.track_status()) and math.isnan(suite.track_peak())


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A commit that was predicted before; `measure` notes that it was asked."""
    monkeypatch.setenv("ASV_CONF_DIR", str(tmp_path))
    monkeypatch.setenv("ASV_COMMIT", "a" * 40)
    asked = []
    monkeypatch.setattr(_records, "measure", lambda kind, **_: asked.append(kind) or {"header": {}})

    def write(torch="1.0", status="ok", commit="a" * 12, worker=None):
        path = tmp_path / ".asv/records" / f"20260101T000000-1-{commit}-costs.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        _records.append(path, {"status": "ok", "torch": torch, "worker": worker or _records.digest()})
        _records.append(path, {"cell": "x", "status": status})
        return asked

    return write


def test_a_commit_is_predicted_once(known):
    asked = known()
    assert _records.predict({"x"}, "1.0")["x"]["status"] == "ok"
    assert asked == []


@pytest.mark.parametrize(
    ("written", "planned", "torch"),
    [
        ({}, {"x", "y"}, "1.0"),
        ({}, {"x"}, "2.0"),
        ({"status": "failed"}, {"x"}, "1.0"),
        ({"worker": "another"}, {"x"}, "1.0"),  # or BASE would be compared as another benchmark had it
        ({"commit": "b" * 12}, {"x"}, "1.0"),
    ],
)
def test_anything_else_is_predicted_anew(known, written, planned, torch):
    asked = known(**written)
    _records.predict(planned, torch)
    assert asked == ["costs"]


def test_predictions_say_which_worker_made_them(inside, monkeypatch, tmp_path):
    """The control: with a line more it is another one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as it is again afterwards
    executor = type("Executor", (), {"__init__": lambda *_: None, "submit": lambda *_: None})
    monkeypatch.setattr(inside.predictions, "ProcessPoolExecutor", executor)
    facts, *_ = inside.predictions.costs()
    assert facts["worker"] == _records.digest()
    for folder in _records.MEASURES:
        copytree(_records.HERE / folder, tmp_path / folder)
    monkeypatch.setattr(_records, "HERE", tmp_path)
    assert _records.digest.__wrapped__() == facts["worker"]
    (tmp_path / "worker" / "micro.py").write_text("changed = True\n")
    assert _records.digest.__wrapped__() != facts["worker"]


def test_files_that_are_not_committed_are_predicted_every_time(known, monkeypatch):
    monkeypatch.delenv("ASV_COMMIT")
    asked = known(commit=_records.WORKTREE)
    _records.predict({"x"}, "1.0")
    assert asked == ["costs"]
