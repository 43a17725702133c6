"""The benchmark's dry run on a card that is not here: what each row would cost, from other processes."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from places import ROOT

from acestep.profiler import matrix, modes, prepare
from acestep.profiler.command import main
from acestep.profiler.options import parse
from harness import cards
from harness import processes as pool
from harness.memory import GIB
from harness.trace.cost import Refusal

CELL = ("--source", "synthetic-tiny", "--duration", "10", "--inference-steps", "2")
DRY = ("--mode", "benchmark", "--dry-run", "--card", "rtx4060")


@pytest.fixture(autouse=True)
def one_item(monkeypatch):
    """The smallest matrix. --max-vram is for the rest of its process, which here is the tests'."""
    monkeypatch.setattr(matrix, "BATCHES", (1,))
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    monkeypatch.delenv("MAX_CUDA_VRAM")


@pytest.fixture
def dry(monkeypatch, tmp_path, capsys):
    """The benchmark of one cell: exit code and output."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        code = main(["--mode", "benchmark", *CELL, *arguments], tier_test=lambda _: 9)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def here(monkeypatch):
    """What processes would predict is predicted in this one: of those there is a test of its own."""
    monkeypatch.setattr(modes, "Processes", lambda: nullcontext(SimpleNamespace(map=map)))


def predicted(*arguments):
    """The rows of a command line, each with its cost, made here."""
    options = parse([*DRY, *CELL, *arguments], {}, Path("/nowhere"))
    setup, card = prepare.setup(options, with_lm=True), prepare.card(options)
    assert card
    return [(row, matrix.expected(card, row)) for row in matrix.rows(options, setup)]


def test_a_row_has_expected_times_and_a_peak(dry, monkeypatch):
    monkeypatch.setattr(pool, "_cores", lambda: 1)
    code, out, err = dry("--dry-run", "--card", "rtx4060")
    assert code == 0 and "GeForce RTX 4060: 8.00 GiB → 8 GB (RTX 4060), tier4" in out
    assert "rows to predict: 2," in err
    plain, thinking = re.findall(r"^10 .*$", out, re.M)
    wall, lm, dit, vae = map(float, plain.split()[4:8])
    assert lm == 0 and wall > 0 and wall >= dit and wall >= vae  # a few milliseconds are 0.00 s
    assert float(thinking.split()[5]) > 0 and float(thinking.split()[4]) > wall
    assert re.search(r"  0\.\d\d GiB", plain) and "predicted, uncalibrated" in out
    assert [plain, thinking] == [matrix.expected_row(*one) for one in predicted()]


def test_rows_that_would_run_the_same_are_predicted_once_and_listed_each(dry, here, monkeypatch):
    monkeypatch.setattr(matrix, "BATCHES", (1, 2))  # of which a card of 4 GB makes one
    code, out, err = dry("--dry-run", "--card", "rtx4060", "--max-vram", "4")
    one, two = re.findall(r"^10 .*$", out, re.M)
    assert code == 0 and "rows to predict: 1," in err
    assert "CLAMPED" in two and one.split()[4:9] == two.split()[4:9]


def test_a_row_marks_what_does_not_fit(dry, here, monkeypatch, tmp_path):
    small = {"name": "small", "capability": "8.6", "memory_gib": 1, "context_mib": 1000}
    (tmp_path / "small.json").write_text(json.dumps(small | {"tflop_per_s": 10, "gb_per_s": 100}))
    card = cards.read(tmp_path / "small.json")
    monkeypatch.setattr(cards, "find", lambda name: card)
    code, out, _ = dry("--dry-run", "--card", "small")
    [row] = re.findall(r"^10 .*$", out, re.M)
    assert code == 0 and "OOM in " in row and row.split()[4:8] == ["—"] * 4


def test_a_row_that_ends_late_has_no_times_either():
    [(row, cost), *_] = predicted("--max-vram", "4")
    ended = Refusal("vae_decode", "aten::convolution", "models/vae.py", GIB, GIB, 0)
    shown = matrix.expected_row(row, replace(cost, out_of_memory=ended))
    assert shown.split()[4:8] == ["—"] * 4 and "OOM in vae_decode" in shown


def test_a_card_is_for_dry_runs(dry):
    code, _, err = dry("--card", "rtx4060")
    assert code == 2 and "--card" in err and "--dry-run" in err
    code, out, _ = dry("--dry-run")
    assert code == 0 and "SKIP dry run" in out
    code, _, err = dry("--dry-run", "--card", "rtx409")
    assert code == 2 and "GeForce RTX 4090" in err


@pytest.fixture
def command(tmp_path):
    """The whole matrix under way, once its first row is there."""
    started = subprocess.Popen(
        [sys.executable, ROOT / "profile_inference.py", *DRY, "--source", "synthetic-tiny"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    )
    assert started.stdout
    while not started.stdout.readline().startswith("30 "):
        assert started.poll() is None
    yield started
    started.kill()
    started.communicate()


@pytest.mark.nightly
def test_an_interrupt_ends_it_in_one_line_and_every_process_with_it(command):
    processes = psutil.Process(command.pid).children(recursive=True)
    assert len(processes) >= 2
    os.killpg(command.pid, signal.SIGINT)
    _, err = command.communicate(timeout=120)
    assert command.returncode == 130
    assert err.splitlines()[1:] == ["profile_inference: interrupted"]
    assert not psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.nightly
def test_a_reader_that_has_seen_enough_ends_it_in_silence(command):
    processes = psutil.Process(command.pid).children(recursive=True)
    command.stdout.close()
    err = command.stderr.read()
    assert command.wait(timeout=120) == 0 and err.count("\n") == 1
    assert not psutil.wait_procs(processes, timeout=60)[1]
