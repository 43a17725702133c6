"""The commands: each runs on tiny weights, shows its figures in 80 columns, and says what is not here."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from harness import files
from harness.errors import BenchError, UsageError
from subjects.rvc import layout, weights
from subjects.rvc.__main__ import COMPONENTS, TESTS, main
from subjects.rvc.backends import mlx_process
from subjects.rvc.bench import audio, components, fresh, pitch, proof, report, synthesis
from subjects.rvc.bench.components import KINDS
from subjects.rvc.config import RATES
from subjects.rvc.models.rmvpe import RMVPE

TINY = ("--source", "synthetic-tiny", "--threads", "1")
SHORT = (*TINY, "--runs", "2", "--device", "cpu")
TOLD = ("plan", "absent", "warnings")  # before anything of a conversion is measured


def figures(capsys, path, *argv: str) -> tuple[str, dict]:
    assert main([*argv, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if str(path.parent) not in line]  # a path is as long as it is
    assert max(map(len, lines)) <= 80 and "mlx: n/a: " in out
    return out, json.loads(path.read_text())


def test_what_a_light_command_knows_is_what_the_rest_does():
    assert set(COMPONENTS) == set(KINDS) and layout.DEFAULT_RATE in RATES


def test_pitch_by_length(capsys, tmp_path):
    out, record = figures(capsys, tmp_path / "a.json", "rmvpe", *SHORT, "--duration", "0.2")
    leg = record["lengths"]["0.2"]
    assert leg["backend"] == "torch-cpu" and leg["device"] == "cpu" and len(leg["seconds"]) == 2
    assert leg["work"]["frames"] == 32 and leg["work"]["samples"] == 3_200 and leg["work"]["threads"] == 1
    assert "x real" in out and leg["first_s"] > 0


def test_a_component_beside_the_ceiling_with_its_norms_folded_and_left_in(capsys, tmp_path):
    argv = ("components", *SHORT, "--component", "flow", "--duration", "0.2", "--no-warmup")
    out, record = figures(capsys, tmp_path / "a.json", *argv)
    assert [*record["components"]] == ["flow"] and [*record["ceilings_flop_s"]] == ["conv1d"]
    assert 0 < record["components"]["flow"]["share"] < 1.5
    assert "flow, weight norm left in over folded" in out
    assert record["components"]["flow"]["first_s"] is None


def test_synthesis_of_a_length(capsys, tmp_path):
    records = [
        figures(capsys, tmp_path / "a.json", "full", *SHORT, "--duration", duration)[1]
        for duration in ("0.36", "0.4")
    ]
    assert [record["legs"][0]["work"]["frames"] for record in records] == [36, 40]
    works = [record["legs"][0]["work"]["flop"] for record in records]
    assert works[1] > works[0]
    assert all(record["pieces"]["relative_rms"] <= 1e-5 for record in records)
    out, record = figures(capsys, tmp_path / "a.json", "full", *SHORT, "--duration", "0.1")
    assert record["pieces"]["relative_rms"] is None and "n/a, one piece" in out


@pytest.mark.parametrize(("frames", "cut"), [(1, False), (12, False), (13, True), (40, True)])
def test_pieces_are_less_than_the_whole_or_not_compared(engine, monkeypatch, frames, cut):
    """Of the tiny voice, whose generator sees 10 frames; with no context, pieces are far apart."""
    network = engine.models.synthesizer
    drawn = synthesis.inputs(network.config, frames)
    with torch.inference_mode():
        whole = network(*drawn)
    apart, size = synthesis.in_pieces(network, drawn, whole)
    assert network.dec.context == 10 and size <= max(frames // 2, 1)
    assert apart is not None and apart <= synthesis.LIMIT if cut else apart is None
    monkeypatch.setattr(network.dec, "context", 0)
    if cut:
        assert synthesis.in_pieces(network, drawn, whole)[0] > synthesis.LIMIT


def test_a_conversion_comes_out_the_same_and_is_written(capsys, tmp_path):
    argv = ("audio-parity", *SHORT, "--audio", "examples/audio/sung.ogg", "--duration", "0.2")
    out, record = figures(
        capsys, tmp_path / "a.json", *argv, "--no-warmup", "--save-outputs", "--output-dir", str(tmp_path)
    )
    assert len(record["runs"]) == 2 and len({run["sha256"] for run in record["runs"]}) == 1
    assert record["another_seed"]["relative_rms"] > record["limits"]["relative_rms"]
    assert (tmp_path / "42.wav").is_file() and "generate" in out
    assert ["save" in run["stages_s"] for run in record["runs"]] == [True, False]  # each run has its own
    first, second = (run["wall_s"] for run in record["runs"])
    assert f"median wall {(first + second) / 2:.3f} s of 2" in out
    for run in record["runs"]:
        assert sum(run["stages_s"].values()) == pytest.approx(run["wall_s"], rel=0.02)


def test_what_an_index_takes_is_told_apart(capsys, tmp_path):
    np.save(tmp_path / "index.npy", np.random.RandomState(0).standard_normal((20, 32)).astype(np.float32))
    argv = ("audio-parity", *SHORT, "--duration", "0.2", "--index", str(tmp_path / "index.npy"))
    out, record = figures(capsys, tmp_path / "a.json", *argv)
    assert record["plan"]["index_rate"] == 0.75 and "  features/retrieve " in out
    for run in record["runs"]:
        assert [*run["details_s"]] == ["features/retrieve"] and run["details_s"]["features/retrieve"] > 0
        assert run["details_s"]["features/retrieve"] < run["stages_s"]["features"]


class Here:
    """A fresh process in the place of which this one does the work."""

    def __init__(self, jobs: int):
        assert jobs == 1

    __enter__ = __exit__ = lambda self, *error: self if not error else None

    def map(self, work, items):
        return map(work, items)


def test_a_fresh_process_accounts_for_the_wall(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "Processes", Here)
    argv = ("e2e", *SHORT, "--audio", "examples/audio/sung.ogg", "--duration", "0.2", "--runs", "1")
    monkeypatch.setattr(fresh, "LEAST_S", 60.0)  # on a busy machine
    assert main([*argv, "--json", str(tmp_path / "a.json")]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert json.loads(capsys.readouterr().out) == {name: record[name] for name in (*TOLD, "runs")}
    assert len(record["runs"]) == 1 and [*record["absent"]] == ["mlx"]
    one = record["runs"][0]
    assert one["problem"] is None and one["environment"]["device"] == "cpu" and one["load_s"] > 0
    assert sum(one["stages_s"].values()) == pytest.approx(one["first_call_s"])
    monkeypatch.setattr(fresh, "SHARE", -1.0)  # of nothing
    monkeypatch.setattr(fresh, "LEAST_S", 0.0)
    assert main([*argv]) == 1 and "time is spent in none, or in two" in capsys.readouterr().err


def test_a_fresh_process_of_each_backend(capsys, tmp_path, monkeypatch):
    """In MLX it has the setup of MLX's weights, and on a CPU it is no measure of MLX."""
    ran = []

    def fresh_one(plan, threads, backend):
        ran.append((backend, plan.setup.model, threads))
        name = "mlx-cpu" if backend == "mlx" else "torch"
        return {"environment": {"backend": name}, "problem": f"{backend} is wrong"}

    other = weights.write(weights.Synthetic("synthetic-tiny", "40k"), tmp_path / "other") / "40k.pth"
    monkeypatch.setattr(mlx_process, "absent", lambda: None)
    monkeypatch.setattr(fresh, "fresh", fresh_one)
    argv = ["e2e", *SHORT, "--mlx-model", str(other), "--json", str(tmp_path / "a.json")]
    assert main(argv) == 1
    assert ran == [("torch", "48k", 1)] * 2 + [("mlx", "40k", 1)] * 2
    record = json.loads((tmp_path / "a.json").read_text())
    assert [one["note"] for one in record["mlx"]] == ["a CPU's: no measure of MLX"] * 2
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {name: record[name] for name in (*TOLD, "runs", "mlx")}
    assert "torch is wrong" in captured.err and "mlx is wrong" in captured.err
    assert main([*argv, "--mlx-only"]) == 1 and ran[4:] == [("mlx", "40k", 1)] * 2
    assert "runs" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("generate_s", "other_s", "right"), [(0.9, 0.1, True), (0.87, 0.13, False), (1.03, -0.03, False)]
)
def test_time_in_no_stage_or_in_two_is_told(generate_s, other_s, right):
    stages_s = {"pitch": 0.09, "generate": generate_s, "other": other_s - 0.09}
    assert sum(stages_s.values()) == pytest.approx(1)  # whatever is missed
    assert (fresh.missed(stages_s, 1.0) is None) is right
    assert fresh.missed({"pitch": 0.001}, 0.019) is None  # too short for a share


def test_a_recording_becomes_a_file(capsys, tmp_path):
    argv = ("convert", "examples/audio/sung.ogg", *TINY, "--device", "cpu", "--duration", "0.5")
    assert main([*argv, "--length", "exact", "--out", str(tmp_path / "new")]) == 0
    (path,) = (tmp_path / "new").iterdir()
    out = capsys.readouterr().out
    assert f"0.50 s, seed 42: {path}" in out and max(map(len, out.replace(str(path), "").splitlines())) <= 80
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 48_000 and samples.shape == (24_000,) and np.abs(samples).max() > 1_000


def test_what_has_to_hold_does(capsys, tmp_path, monkeypatch):
    for which in ("chunking-simple", "weights"):
        out, record = figures(capsys, tmp_path / "a.json", "test", which, *TINY)
        states = [check["trips"] for check in record["checks"]]
        assert not record["failed"] and states.count(None) == (3 if which == "chunking-simple" else 0)
        assert out.count("ok ") == states.count(True) > 0 and out.count("n/a  ") == states.count(None)
    argv = ("test", "chunking", "--frames", "1", "65", "640", *TINY)
    out, record = figures(capsys, tmp_path / "a.json", *argv)
    assert [check["trips"] for check in record["checks"]] == [None, None, True, True]
    monkeypatch.setattr(RMVPE, "context", (32, 32))
    assert main([*argv]) == 1 and "FAILED     pitch of 640 frames" in capsys.readouterr().out
    assert set(TESTS) >= {"chunking", "pipeline", "parity"}


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["rmvpe", "--mlx-only"], 3, "--mlx-only: mlx is not installed; pip install"),
        (["full", "--mlx-model", "a.npz"], 3, "--mlx-model: mlx is not installed"),
        (["full", "--mlx-only", "--pytorch-only"], 2, "given together"),
        (["full", "--mlx-model", "a.npz", "--pytorch-only"], 2, "given together with --mlx-model"),
        (["e2e", "--mlx-only"], 3, "--mlx-only: mlx is not installed; pip install"),
        (["test", "--mlx-only"], 2, "--mlx-only: PyTorch alone is measured here"),
        (["test", "--mlx-model", "a.npz"], 2, "--mlx-model: PyTorch alone is measured here"),
        (["full", "--duration", "0"], 2, "--duration: 0.0 is not allowed"),
        (["components", "--component", "vae"], 2, "invalid choice"),
        (["rmvpe", "--runs", "0"], 2, "--runs: 0 is not allowed"),
        (["rmvpe", "--device", "cuda:7"], 3, "cuda:7 is not available"),
        (["full", "--pt-model", "/nowhere.pth"], 3, "/nowhere.pth: no such file"),
        (
            ["full", "--model", "40k", "--pt-model", "a.pth"],
            2,
            "--model: '40k' is given beside the file of a",
        ),
        (["audio-parity", "--audio", "/nowhere.wav"], 3, "--audio: '/nowhere.wav' cannot be read"),
        (["rmvpe", "--quick", "--duration", "1"], 2, "--quick: given together with --duration"),
        (["audio-parity", "--output-dir", "/dev/null/x"], 2, "--output-dir: given without --save-outputs"),
        (["audio-parity", "--save-outputs", "--output-dir", "/dev/null/x"], 3, "--output-dir: '/dev/null/x'"),
        (["convert", "examples/audio/sung.ogg", "--out", "/dev/null/x"], 3, "--out: '/dev/null/x': cannot"),
        (["test", "chunking", "--frames", "0"], 2, "--frames: 0 is not allowed"),
        (
            ["test", "weights", "--frames", "1"],
            2,
            "--frames: is of the test chunking; leave it out of weights",
        ),
        (["test", "all", "--repeats", "2"], 2, "unrecognized arguments: --repeats 2"),
        (["e2e", "--no-warmup"], 2, "unrecognized arguments: --no-warmup"),
        (["convert", "examples/audio/sung.ogg", "--threads", "0"], 2, "--threads: 0 is not allowed"),
    ],
)
def test_what_cannot_be_run_is_one_line(argv, code, message, capsys):
    assert main([*argv, "--source", "synthetic-tiny"]) == code
    err = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(err) == 1 and message in err[0]


# A command, what ends it, at which call, and what is told and written of what was measured until then.
ENDED = {
    "rmvpe --quick": (pitch, "measured", 2, r"^5 .*\d+%$", ["lengths"]),
    "components --duration 0.2": (components, "measured", 2, r"^rmvpe .* 40% ", ["components"]),
    "components --duration 0.2 --component flow": (components, "folded_ratios", 1, "^flow ", ["components"]),
    "full --duration 0.4": (synthesis, "in_pieces", 1, "^median of 2 calls", ["legs"]),
    "audio-parity --duration 0.2": (audio, "of_audio", 2, "^run 1: wall", ["runs"]),
    "e2e": (fresh, "fresh", 2, r"\{\s*\"first\": 1", ["runs"]),
    "test chunking-simple": (proof, "compare", 4, "^n/a +1,000 frames in 1 pieces", ["checks"]),
}
ENDS = {"interrupted": KeyboardInterrupt, "no room": OSError(28, "No space left on device")}
QUICKLY = {"measured": lambda one, network, s: pitch_of(one, network, 0.2), "fresh": lambda *_: dict(FRESH)}
FRESH = {"first": 1, "problem": None}
pitch_of = pitch.measured


@pytest.mark.parametrize("command", ENDED)
@pytest.mark.parametrize("end", ENDS)
def test_what_ends_the_run_takes_nothing_that_was_measured(command, end, capsys, tmp_path, monkeypatch):
    module, name, last, text, keys = ENDED[command]
    function = getattr(module, name) if module is components else QUICKLY.get(name, getattr(module, name))
    calls = []

    def ends(*given):
        calls.append(given)
        if len(calls) == last:
            raise ENDS[end]
        return function(*given)

    monkeypatch.setattr(module, name, ends)
    flags = TINY if command.startswith("test") else SHORT  # which times nothing
    code = main([*command.split(), *flags, "--json", str(tmp_path / "a.json")])
    assert code == (130 if end == "interrupted" else 1)
    record = json.loads((tmp_path / "a.json").read_text())
    assert all(record[key] for key in keys)
    assert re.search(text, capsys.readouterr().out, re.MULTILINE)


class Full(io.StringIO):
    """A terminal that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_figure_that_cannot_be_shown_is_written_and_the_other_way(capsys, tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        one = report.Report("full", path)
        patch.setattr(sys, "stdout", Full())
        one.add("a row", legs=[1])
    assert json.loads(path.read_text())["legs"] == [1]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_whole", full)
    with pytest.raises(BenchError, match="cannot be written: No space left on device; it is as before"):
        one.add("another row", legs=[2])
    assert capsys.readouterr().out == "another row\n" and json.loads(path.read_text())["legs"] == [1]


def test_a_file_has_null_for_what_is_not_finite(tmp_path):
    path = tmp_path / "a.json"
    report.Report("full", path).add(
        None, parity={"snr_db": np.inf, "max": 0.0}, legs=[(np.nan, 1.5, -np.inf)]
    )
    record = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert record["parity"] == {"snr_db": None, "max": 0.0} and record["legs"] == [[None, 1.5, None]]


def test_a_file_of_an_earlier_version_is_written_over_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{\n  "format": "rvc-bench/1",\n  "walls_s": [1.0]\n}')
    report.Report("audio-parity", path).add(None, runs=[{"wall_s": 2.0}])
    record = json.loads(path.read_text())
    assert record["format"] == "rvc-bench/2" and record["runs"] == [{"wall_s": 2.0}]
    assert "walls_s" not in record
    path.write_text('{\n  "format": "another/1"\n}')
    with pytest.raises(UsageError, match="--json"):
        report.Report("audio-parity", path)


def test_a_row_is_out_when_it_is_told(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))  # type: ignore[arg-type]
    report.Report("full", None).add("a row")
    assert raw.getvalue() == b"a row\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
@pytest.mark.parametrize("command", ["rvc", "qwen3_tts"])
def test_a_full_disk_is_no_bug(command):
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-m", f"subjects.{command}", "costs", "--list-cards"]
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and "No space left" in done.stderr
