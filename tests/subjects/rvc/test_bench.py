"""The commands: each runs on tiny weights, shows its figures in 80 columns, and says what is not here."""

import json

import pytest

from subjects.rvc import layout
from subjects.rvc import request as requests
from subjects.rvc.__main__ import COMPONENTS, LENGTHS, PADDINGS, RATES, TESTS, main
from subjects.rvc.bench.components import KINDS
from subjects.rvc.config import RATES as KNOWN

TINY = ("--source", "synthetic-tiny", "--threads", "1")
SHORT = (*TINY, "--runs", "2", "--device", "cpu")


def figures(capsys, path, *argv: str) -> tuple[str, dict]:
    assert main([*argv, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80 and "mlx: n/a: " in out
    return out, json.loads(path.read_text())


def test_what_a_light_command_knows_is_what_the_rest_does():
    assert (LENGTHS, PADDINGS, RATES) == (requests.LENGTHS, requests.PADDINGS, KNOWN)
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
    assert works[1] > works[0] and records[0]["pieces"]["relative_rms"] <= 1e-5


def test_a_conversion_comes_out_the_same_and_is_written(capsys, tmp_path):
    argv = ("audio-parity", *SHORT, "--audio", "examples/audio/sung.ogg", "--duration", "0.2")
    out, record = figures(
        capsys, tmp_path / "a.json", *argv, "--no-warmup", "--save-outputs", "--output-dir", str(tmp_path)
    )
    assert len(record["sha256"]) == 2 and len(set(record["sha256"])) == 1
    assert record["another_seed"]["relative_rms"] > record["limits"]["relative_rms"]
    assert (tmp_path / "42.wav").is_file() and "generate" in out
    assert sum(record["stages_s"].values()) == pytest.approx(record["walls_s"][-1], rel=0.02)


def test_what_has_to_hold_does(capsys, tmp_path):
    for which in ("chunking-simple", "weights"):
        out, record = figures(capsys, tmp_path / "a.json", "test", which, *TINY)
        assert not record["failed"] and out.count("ok ") == len(record["checks"]) > 0
    out, record = figures(capsys, tmp_path / "a.json", "test", "chunking", "--frames", "1", "65", *TINY)
    assert [check["trips"] for check in record["checks"]] == [True] * 3
    assert set(TESTS) >= {"chunking", "pipeline", "parity"}


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["rmvpe", "--mlx-only"], 3, "--mlx-only: mlx is not installed; pip install"),
        (["full", "--mlx-model", "a.npz"], 3, "--mlx-model: mlx is not installed"),
        (["full", "--mlx-only", "--pytorch-only"], 2, "given together"),
        (["full", "--mlx-model", "a.npz", "--pytorch-only"], 2, "given together with --mlx-model"),
        (["e2e", "--mlx-only"], 2, "--mlx-only: PyTorch alone is measured here; audio-parity has"),
        (["test", "--mlx-only"], 2, "--mlx-only: PyTorch alone is measured here"),
        (["test", "--mlx-model", "a.npz"], 2, "--mlx-model: PyTorch alone is measured here"),
        (["full", "--duration", "0"], 2, "--duration: 0.0 is not allowed"),
        (["components", "--component", "vae"], 2, "invalid choice"),
        (["rmvpe", "--runs", "0"], 2, "--runs: 0 is not allowed"),
        (["rmvpe", "--device", "cuda:7"], 3, "cuda:7 is not available"),
        (["full", "--pt-model", "/nowhere.pth"], 3, "/nowhere.pth: no such file"),
        (["audio-parity", "--audio", "/nowhere.wav"], 3, "--audio: '/nowhere.wav' cannot be read"),
        (["test", "chunking", "--frames", "0"], 2, "--frames: 0 is not allowed"),
    ],
)
def test_what_cannot_be_run_is_one_line(argv, code, message, capsys):
    assert main([*argv, "--source", "synthetic-tiny"]) == code
    err = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(err) == 1 and message in err[0]
