"""The matrix: measured once and resumed, a row for each failure, and as much as a budget allows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from places import ROOT
from profiler_runs import DONE, ONE_CELL
from roots import checkpoint

from acestep.profiler import matrix, measure
from acestep.weights.layout import LMS
from harness.progress import Progress
from harness.records import machine, performance_plan
from harness.records import writer as output
from harness.records.schema import Item, Profile


def test_a_matrix_is_measured_once_and_resumed(run, tmp_path, monkeypatch):
    arguments = (*ONE_CELL, "--benchmark-output", str(tmp_path / "matrix.json"))
    code, out, progress = run(*arguments)
    rows = [line for line in out.splitlines() if line.startswith("10 ")]
    assert code == 0 and len(rows) == 2 and all(" OK" in row for row in rows)
    assert "[2/2]" in progress and "to go" in progress
    first = output.load(tmp_path / "matrix.json")[1]
    monkeypatch.setattr(measure.Bench, "music", lambda *_: pytest.fail("measured again"))
    code, out, err = run(*arguments)
    assert "matrix.json': 2; --no-resume" in err
    assert code == 0 and output.load(tmp_path / "matrix.json")[1] == first
    assert [line for line in out.splitlines() if line.startswith("10 ")] == rows


@pytest.mark.parametrize("revision", [("0" * 40, True), (None, None)])
def test_what_no_commit_names_is_gone_on_from_while_it_is_the_same(run, tmp_path, monkeypatch, revision):
    """Uncommitted changes, or no git: where the code is the same rows are kept, and where not the file."""
    path = tmp_path / "matrix.json"
    monkeypatch.setattr(machine, "revision", lambda: revision)
    monkeypatch.setattr(measure.Bench, "music", lambda *_: DONE)
    assert run(*ONE_CELL, "--benchmark-output", str(path))[0] == 0
    before = path.read_text()
    assert f"kept from {str(path)!r}: 2" in run(*ONE_CELL, "--benchmark-output", str(path))[2]
    monkeypatch.setattr(machine, "code", lambda: "changed")
    code, _, err = run(*ONE_CELL, "--benchmark-output", str(path))
    kept = tmp_path / "matrix-kept.json"
    assert code == 0 and f"it is kept as {str(kept)!r}, and begun anew" in err
    assert output.load(kept)[1] == output.load(path)[1] and kept.read_text() != before


def test_rows_of_another_engine_are_others(run, tmp_path, monkeypatch):
    """What is asked of the engine is asked of the row, or one would stand for the other."""
    path = tmp_path / "matrix.json"
    monkeypatch.setattr(measure.Bench, "music", lambda *_: DONE)
    for engine, rows in (((), 2), (("--quantization", "none"), 4), (("--no-compile",), 6), ((), 6)):
        assert run(*ONE_CELL, "--benchmark-output", str(path), *engine)[0] == 0
        assert len(output.load(path)[1]) == rows
    assert "matrix.json': 6; --no-resume" in run(*ONE_CELL, "--benchmark-output", str(path))[2]


KILLED = """
import os, signal, sys
from acestep.cli.upstream import LeftOut
from acestep.profiler import command, measure
from harness.records import machine
machine.revision = lambda: ("0" * 40, False)
music, calls = measure.Bench.music, []
def counted(self, *arguments):
    calls.append(1)
    if sys.argv.pop(1) == "die" and len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    sys.argv.insert(1, "die" if DIES else "live")
    item = music(self, *arguments)
    print("measured", arguments[1].params.thinking, file=sys.stderr)
    return item
DIES = sys.argv[1] == "die"
measure.Bench.music = counted
sys.exit(command.main(sys.argv[2:], tier_test=None))
"""


@pytest.mark.nightly  # by day tests/test_kills.py ends every entry point, this one too
def test_kill_9_in_the_middle_loses_nothing_and_repeats_nothing(tmp_path):
    path = tmp_path / "matrix.json"
    arguments = (*ONE_CELL, "--benchmark-output", str(path))
    environment = os.environ | {"ACESTEP_SOURCE": "synthetic-tiny", "PYTHONPATH": str(ROOT)}

    def command(how: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", KILLED, how, *arguments]
        return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)

    killed = command("die")
    assert killed.returncode == -signal.SIGKILL and killed.stderr.count("measured") == 1, killed.stderr
    header, [kept] = output.load(path)
    assert kept.status == "ok" and header.ended_utc is None
    resumed = command("live")
    assert resumed.returncode == 0 and resumed.stderr.count("measured") == 1, resumed.stderr
    header, items = output.load(path)
    assert [item.key for item in items].count(kept.key) == 1 and len(items) == 2
    assert kept in items and header.ended_utc is not None


def test_of_two_runs_at_once_one_measures_and_the_other_says_why_not(tmp_path):
    path = tmp_path / "matrix.json"
    line = [sys.executable, str(ROOT / "profile_inference.py"), *ONE_CELL, "--benchmark-output", str(path)]
    start = partial(
        subprocess.Popen, line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env=os.environ | {"ACESTEP_SOURCE": "synthetic-tiny"},
    )  # fmt: skip
    both = [(process, *process.communicate()) for process in [start(), start()]]
    codes = [process.returncode for process, _, _ in both]
    assert len(output.load(path)[1]) == 2 and list(tmp_path.iterdir()) == [path]
    if codes != [0, 0]:  # or one had ended before the other began
        [error] = [err for process, _, err in both if process.returncode]
        assert sorted(codes) == [0, 2] and error.count("\n") == 1
        assert f"--benchmark-output: another run is writing {str(path)!r}; wait for it" in error


def test_a_budget_ends_the_matrix_in_time(run, monkeypatch):
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    code, out, _ = run(*ONE_CELL, "--budget", "1m")
    assert code == 0
    first, second = (line for line in out.splitlines() if line.startswith("10 "))
    assert " OK" in first and "no time left" in second
    answer = " ".join(out.splitlines()[-2:])
    assert "1 of 2 rows measured on " in answer and "; 1 left out." in answer
    assert "The next row, 10 s, batch 1, thinking, 2 steps, needs about " in answer


class Rows:
    """Rows by a made-up clock, each of which takes a second for each unit of its work."""

    def __init__(self, monkeypatch, *works: float):
        self.now_s = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now_s)
        self.rows = [
            type("Row", (), {"work": work, "same_run": work, "__str__": lambda self: f"{self.work:g}"})()
            for work in works
        ]

    def run(self, budget_s: float | None, kept=()) -> list[str]:
        reasons, progress = [], Progress(sum(row.work for row in self.rows))
        for row, late in matrix.each(self.rows, progress, budget_s, lambda row: row.work in kept):
            reasons.append(late)
            if not late and row.work not in kept:
                self.now_s += row.work
        return reasons


def test_rows_without_time_say_what_they_need_and_which_budget_would_do(monkeypatch):
    assert Rows(monkeypatch, 10, 20, 40, 80).run(None) == [""] * 4
    assert Rows(monkeypatch, 10, 20, 40, 80).run(42.0) == [
        "", "",
        "no time left: needs about 40 s; 12 s were left; --budget 70s would do it, and 3m for all 2",
        "no time left: needs about 80 s; 12 s were left; --budget 3m would do it, and 3m for all 2",
    ]  # fmt: skip
    assert Rows(monkeypatch, 10, 20, 40, 80).run(70.0)[:3] == [""] * 3  # the budget that would do it does
    assert Rows(monkeypatch, 10, 20, 40, 80).run(180.0) == [""] * 4  # and that of all does all
    assert Rows(monkeypatch, 10, 20, 40, 40, 80).run(42.0) == [  # of two that run the same one is measured
        "", "",
        "no time left: needs about 40 s; 12 s were left; --budget 70s would do it, and 3m for all 2",
        "no time left: needs about 40 s; 12 s were left; --budget 70s would do it, and 3m for all 2",
        "no time left: needs about 80 s; 12 s were left; --budget 3m would do it, and 3m for all 2",
    ]  # fmt: skip
    assert Rows(monkeypatch, 10, 20, 40, 80).run(42.0, kept=(40,))[2:] == [
        "", "no time left: needs about 80 s; 12 s were left; --budget 2m would do it",
    ]  # fmt: skip


def test_a_failure_is_a_row_and_the_rest_goes_on(run, tmp_path, monkeypatch):
    from acestep.engine import Engine

    run_plan = Engine.run

    def fails(self, plan, *rest):
        if not plan.params.thinking:
            raise MemoryError("no room")
        return run_plan(self, plan, *rest)

    monkeypatch.setattr(Engine, "run", fails)
    path, plan = tmp_path / "matrix.json", tmp_path / "plan.json"
    code, out, _ = run(*ONE_CELL, "--benchmark-output", str(path), "--json-plan", str(plan))
    assert code == 1 and "HOST-OOM" in out and " OK" in out and f"plan     {plan}" in out
    header, items = output.load(path)
    by_status: dict[str, Item] = {item.status: item for item in items}
    assert by_status.keys() == {"ok", "host-oom"} and by_status["host-oom"].error == "host memory ran out"
    assert by_status["host-oom"].exception == "MemoryError: no room"
    shown = json.loads(plan.read_bytes())
    assert shown == performance_plan.view(Profile(run=header, items=tuple(items)))
    assert [result["error"] for result in shown["results"]] == ["host memory ran out", None]
    assert shown["results"][1]["tokens_per_second"] > 0 and "dtype=float32" in shown["features"]


def test_two_rows_that_clamp_to_one_run_are_measured_once(run, monkeypatch):
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")  # no language model, one item, 180 s
    monkeypatch.setattr(matrix, "DURATIONS_S", (240.0, 300.0))
    measured = []
    monkeypatch.setattr(measure.Bench, "music", lambda self, mode, row: measured.append(row) or DONE)
    code, out, _ = run("--mode", "benchmark", "--inference-steps", "2")
    rows = [line for line in out.splitlines() if re.match(r"(240|300) ", line)]
    assert code == 0 and len(measured) == 1 and len(rows) == 6
    assert all("CLAMPED" in row and "True" not in row for row in rows)


def test_a_length_that_the_language_model_decides_has_rows_as_well(run, tmp_path, monkeypatch):
    monkeypatch.setattr(measure.Bench, "music", lambda *_: DONE)
    path = tmp_path / "open.json"
    length = ("--duration", "-1", "--use-cot-metas")
    code, out, err = run(*ONE_CELL, *length, "--benchmark-output", str(path))
    rows = [line.split()[:4] for line in out.splitlines() if line.startswith("— ")]
    assert code == 0 and rows == [["—", "1", "False", "2"], ["—", "1", "True", "2"]]
    assert [item.requested["duration"] for item in output.load(path)[1]] == [None, None]
    assert "length by the LM, batch 1, thinking, 2 steps" in err


@pytest.mark.parametrize(("lms", "left_out"), [((), True), (LMS[:1], False)])
def test_rows_without_a_language_model_to_think_with_are_told(run, tmp_path, lms, left_out):
    root = checkpoint(tmp_path / "root", *lms)
    code, out, error = run("--mode", "benchmark", "--dry-run", "--source", str(root), "--device", "cpu")
    rows = [line.split()[2] for line in out.splitlines() if line.endswith("dry run")]
    assert code == 0 and ("True" in rows) is not left_out and "False" in rows
    assert ("rows that think are left out: " in error) is left_out


def test_a_matrix_of_which_no_row_is_left_is_refused(run, monkeypatch):
    """All of its rows are to think, with a language model that the card has no room for."""
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")
    code, out, err = run("--mode", "benchmark", "--thinking")
    assert (code, out) == (3, "")
    assert err == (
        "profile_inference: --thinking: no row is left of those that think: "
        "4 GB (GTX 1650) has room for no language model; give --no-limits\n"
    )
