"""The worker and its records: nothing that was measured is lost, nothing that was not is silent."""

import math
import signal
from types import SimpleNamespace

import pytest

from acestep.request import GenerationParams
from benchmarks import _records
from benchmarks.dit import TimeCompiledDiT, TimeDiT
from benchmarks.generate import TimeGenerate, TimeGeneratePreset, TrackStages
from benchmarks.lm import TimeLMPlanning, TimeTextMode, TrackTextStages, TrackTokensPerSec
from benchmarks.parity import TrackParity
from benchmarks.tasks import TimeSolver, TimeTask, TrackTaskStages
from benchmarks.vae import TimeVAEDecode

DIES = """
import os, signal
def hook(params, config):
    if config.batch_size == 2:
        print("out of luck", file=__import__("sys").stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""
RAISES = """
def hook(params, config):
    if config.batch_size == 2:
        raise RuntimeError("latents went NaN")
"""


def read(cls, records, *params, method):
    """What asv gets for one parameter combination."""
    suite = cls()
    suite.setup(records, *params)
    return getattr(suite, method)(records, *params)


def test_every_class_reads_its_cell_from_one_run(checkout):
    checkout()
    records = _records.measure("timing")
    assert records["header"]["status"] == "ok"
    assert set(records["header"]["planned"]) == records.keys() - {"header"}
    for cls, params, method in [
        (TimeDiT, (5, 2, 8, "none"), "track_diffuse"),
        (TimeVAEDecode, (5, 1), "track_vae_decode"),
        (TimeLMPlanning, (5, 2, False, "pt"), "track_plan"),
        (TimeGenerate, (5, 1, True, 8), "track_wall"),
        (TimeGeneratePreset, ("upstream", 5), "track_wall"),
        (TrackStages, ("diffuse", 5, False), "track_stage"),
        (TrackTokensPerSec, (5, 2, "pt"), "track_prefill_ms"),
        (TimeTask, ("cover", 5), "track_wall"),
        (TrackTaskStages, ("diffuse", "repaint", 5), "track_stage"),
        (TimeSolver, ("ode", "adg", 5), "track_diffuse"),
        (TimeTextMode, ("create",), "track_decode_ms"),
        (TrackTextStages, ("lm_decode", "format"), "track_stage"),
    ]:
        found = read(cls, records, *params, method=method)
        most = 1 if cls is TimeGeneratePreset else math.inf
        assert len(found["samples"]) == min(most, records["header"]["repeats"])
        assert all(type(sample) is float and sample > 0 for sample in found["samples"])
        assert found["number"] == 1


def test_ms_per_token_is_the_inverse_of_the_rate(checkout):
    checkout()
    records = _records.measure("timing")
    ms = read(TrackTokensPerSec, records, 5, 2, "pt", method="track_decode_ms")["samples"]
    rate = read(TrackTokensPerSec, records, 5, 2, "pt", method="track_decode_rate")["samples"]
    assert ms[0] == pytest.approx(2.0, rel=0.01)
    assert [a * b for a, b in zip(ms, rate, strict=True)] == pytest.approx([1e3] * len(ms), rel=1e-4)


def test_a_killed_worker_keeps_the_cells_it_finished(checkout, capfd):
    checkout(hook=DIES)
    records = _records.measure("timing")
    assert read(TimeDiT, records, 5, 1, 8, "none", method="track_diffuse")
    with pytest.raises(RuntimeError, match=r"killed by SIGKILL .* out of luck"):
        read(TimeDiT, records, 5, 2, 8, "none", method="track_diffuse")
    with pytest.raises(RuntimeError, match=signal.SIGKILL.name):
        read(TimeLMPlanning, records, 5, 1, True, "pt", method="track_plan")


def test_a_failing_cell_does_not_disturb_its_neighbours(checkout, capfd):
    checkout(hook=RAISES)
    records = _records.measure("timing")
    with pytest.raises(RuntimeError, match="latents went NaN"):
        read(TimeDiT, records, 5, 2, 8, "none", method="track_diffuse")
    assert read(TimeLMPlanning, records, 5, 2, True, "pt", method="track_plan")


def test_the_file_tells_the_reason_of_every_cell(checkout, tmp_path, capfd):
    checkout(hook=DIES)
    records = _records.measure("timing")
    (file,) = (tmp_path / ".asv" / "records").iterdir()
    header, kept = _records.read(file)
    assert {"header": header} | kept == records


def test_a_torn_line_is_not_a_record(tmp_path):
    file = tmp_path / "records.jsonl"
    file.write_text('{"status": "ok"}\n{"cell": "a", "status": "ok"}\n{"cell": "b", "sta')
    assert _records.read(file) == ({"status": "ok"}, {"a": {"cell": "a", "status": "ok"}})


def test_a_commit_without_an_engine_is_not_applicable(checkout):
    checkout(engine=None)
    records = _records.measure("timing")
    with pytest.raises(NotImplementedError, match=r"no acestep\.setup"):
        TimeDiT().setup(records, 5, 1, 8, "none")


def test_an_installed_package_never_stands_in_for_the_commit(checkout, tmp_path):
    checkout()
    (tmp_path / "env" / "project" / "acestep").rename(tmp_path / "elsewhere")
    with pytest.raises(NotImplementedError, match="this commit has no acestep"):
        TimeDiT().setup(_records.measure("timing"), 5, 1, 8, "none")


def test_an_engine_that_does_not_load_is_a_failure(checkout, capfd):
    checkout("import a_dependency_that_is_missing\n")
    with pytest.raises(RuntimeError, match="a_dependency_that_is_missing"):
        TimeDiT().setup(_records.measure("timing"), 5, 1, 8, "none")


def test_a_cell_outside_the_matrix_is_not_applicable(checkout):
    checkout()
    records = _records.measure("timing")
    with pytest.raises(NotImplementedError, match="not in the matrix of synthetic-tiny"):
        TimeDiT().setup(records, 240, 1, 8, "none")
    with pytest.raises(NotImplementedError, match="lm_decode does not run"):
        TrackStages().setup(records, "lm_decode", 5, False)


def test_a_commit_from_before_a_choice_has_no_such_series(checkout):
    checkout()
    records = _records.measure("timing")
    assert read(TimeDiT, records, 5, 1, 8, "none", method="track_diffuse")
    with pytest.raises(NotImplementedError, match="this commit's engine has no compile, quantization"):
        TimeDiT().setup(records, 5, 1, 8, "int8_weight_only")
    with pytest.raises(NotImplementedError, match="this commit's engine has no lm_backend"):
        TimeLMPlanning().setup(records, 5, 1, True, "mlx")
    with pytest.raises(NotImplementedError, match=r"no harness\.parity"):
        TrackParity().setup(records, "velocity", "none", False)
    with pytest.raises(NotImplementedError, match="this commit's engine has no compile"):
        TimeCompiledDiT().setup(records, 5, "none")


OWN = """
import json, sys
kind, path = sys.argv[1:]
cells = [
    {"cell": "generate duration_s=5 batch=1 thinking=False steps=8", "status": "ok", "runs": [
        {"wall_s": 2.0, "stages_s": {"diffuse": 1.5}}]},
    {"cell": "generate duration_s=5 batch=2 thinking=False steps=8", "status": "failed", "reason": "no luck"},
]
planned = [cell["cell"] for cell in cells] + ["text mode=create"]
header = {"status": "ok", "source": "synthetic-tiny", "planned": planned}
with open(path, "w") as file:
    for line in (header, *cells):
        print(json.dumps(line), file=file)
sys.exit(3)
"""


def test_a_commit_of_an_older_layout_is_measured_by_its_own_worker(checkout, tmp_path, monkeypatch, capfd):
    checkout()
    worker = tmp_path / "env" / "project" / "benchmarks" / "_worker.py"
    worker.parent.mkdir()
    worker.write_text(OWN)
    records = _records.measure("timing")
    assert read(TimeDiT, records, 5, 1, 8, "none", method="track_diffuse") == {"samples": [1.5], "number": 1}
    for cls, params, why in [
        (TimeDiT, (5, 2, 8, "none"), "this commit's own worker: no luck"),
        (TimeTextMode, ("create",), "own worker: the worker ended with status 3"),
        (TimeGenerate, (15, 1, False, 8), "not in the matrix"),
    ]:
        with pytest.raises(NotImplementedError, match=why):
            cls().setup(records, *params)
    worker.write_text("import a_module_that_is_gone")
    monkeypatch.setenv("ASV_COMMIT", "another")
    with pytest.raises(NotImplementedError, match="a_module_that_is_gone"):
        TimeDiT().setup(_records.measure("timing"), 5, 1, 8, "none")


def test_the_row_of_a_preset_is_its_request_and_na_where_a_commit_has_none(here, monkeypatch):
    row = here._matrix.cell("preset", preset="upstream", duration_s=5)
    params, config = here.ace_step.request(row, None)
    assert (config.preset, config.batch_size, config.audio_format) == ("upstream", 2, "flac")
    assert params.thinking and params.plans_metadata and params.duration == 5
    fixed = here._matrix.cell("generate", duration_s=5, batch=1, thinking=False, steps=8)
    assert here.ace_step.request(fixed, None).config.preset == "fixed"
    old = SimpleNamespace(request=lambda duration_s, batch_size=1, seed=0, **music: GenerationParams(**music))
    monkeypatch.setattr(here.ace_step, "subject", lambda: old)
    with pytest.raises(here.commit.Unsupported, match=r"this commit: .*'preset'"):
        here.ace_step.request(row, None)
