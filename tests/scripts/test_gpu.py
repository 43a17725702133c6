"""`python -m scripts.gpu` as a command: what it keeps, how it goes on, how it ends, whatever its parts do."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from places import ROOT

from harness import files
from harness.trace import calibration
from scripts.gpu import run
from scripts.gpu.__main__ import main
from scripts.gpu.plan import NAMES, PARTS
from scripts.gpu.record import Facts, Outcome, read

WORKER = ROOT / "tests/support/gpu_worker.py"
THREE = ("tests", "calibration", "stages")
COMMAND = f"""
import sys
from scripts.gpu import run
run.WORKER = (sys.executable, {str(WORKER)!r})
from scripts.gpu.__main__ import main
sys.exit(main())
"""
CUDA = Facts(
    commit="a" * 40, code="b", torch="2.13.0", source="synthetic-full",
    device="cuda", card="NVIDIA GeForce RTX 4090", memory_gib=23.52,
)  # fmt: skip


class Place:
    """Where a run writes, and what its workers were asked for."""

    def __init__(self, folder: Path):
        self.out, self.report, self.tasks = folder / "g.json", folder / "g.md", folder / "tasks"
        self.calibrations = folder / "calibrations"

    def measure(self, *more: str, parts: tuple[str, ...] = THREE) -> int:
        return main([*self.flags(parts), *more])

    def flags(self, parts: tuple[str, ...] = THREE) -> list[str]:
        places = ["--out", str(self.out), "--calibrations", str(self.calibrations)]
        return ["--device", "cpu", "--source", "synthetic-tiny", *places, "--parts", *parts]

    def asked(self) -> list[tuple[str, list[str]]]:
        """Part and rows that are there, of each worker since this was last called."""
        tasks = map(json.loads, self.tasks.read_text().splitlines()) if self.tasks.exists() else ()
        asked = [(task["part"], task["done"]) for task in tasks]
        self.tasks.unlink(missing_ok=True)
        return asked


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.setattr(run, "WORKER", (sys.executable, str(WORKER)))
    monkeypatch.setenv("GPU_TASKS", str(place.tasks))
    return place


def statuses(place: Place) -> dict[str, str]:
    return {name: outcome.status for name, outcome in read(place.out).parts.items()}


def test_all_is_kept_and_a_second_run_has_nothing_to_do(place, capsys):
    assert place.measure() == 0
    assert statuses(place) == dict.fromkeys(THREE, "ok")
    assert place.asked() == [(part, []) for part in THREE]
    shown = capsys.readouterr().out
    assert shown.startswith(place.report.read_text()) and shown.count("\n## ") == 3
    before = read(place.out).parts
    assert place.measure() == 0
    assert place.asked() == [] and read(place.out).parts == before


def test_fresh_measures_again_and_keeps_what_was_there(place):
    assert place.measure(parts=("tests",)) == 0 == place.measure("--fresh", parts=("tests",))
    assert [part for part, _ in place.asked()] == ["tests", "tests"]
    assert place.out.with_name("g-kept.json").exists()


@pytest.mark.parametrize("fact", ["commit", "code", "torch", "card", "source"])
def test_another_commit_card_or_torch_begins_anew(place, monkeypatch, fact):
    assert place.measure(parts=("tests",)) == 0
    facts = run.facts_of
    monkeypatch.setattr(
        run, "facts_of", lambda *asked: run.msgspec.structs.replace(facts(*asked), **{fact: "another"})
    )
    assert place.measure(parts=("stages",)) == 0
    assert statuses(place) == {"stages": "ok"} and place.out.with_name("g-kept.json").exists()


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("fails", "RuntimeError"),
        (
            "crashes",
            "its process ended with 1: an illegal memory access was encountered; without launches · link ·"
            " product 1 x 2 x 3 · copy 1024 MiB",
        ),
    ],
)
def test_a_part_that_fails_is_a_result_and_the_next_one_runs(place, monkeypatch, way, words):
    monkeypatch.setenv("GPU_WORKER", f"calibration={way}")
    assert place.measure() == 1
    assert statuses(place) == {"tests": "ok", "calibration": "failed", "stages": "ok"}
    assert words in " ".join(place.report.read_text().split())
    assert "**Something failed**: 1 failed (calibration);" in place.report.read_text()
    assert not place.calibrations.exists()
    kept = [] if way == "fails" else ["memory"]
    place.asked()
    monkeypatch.delenv("GPU_WORKER")
    assert place.measure() == 0  # the control; what was measured is not measured again
    assert place.asked() == [("calibration", kept)]


def test_a_process_that_hangs_is_ended():
    process = run.Process([sys.executable, "-c", "import time; print(7, flush=True); time.sleep(600)"])
    assert list(process.lines(1.0)) in ([7], [])  # however late it starts
    assert process.end() == "ended after 1 s: it took longer than its share of the budget"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_what_ends_a_run_leaves_a_whole_file_and_the_next_goes_on(place, number):
    environ = os.environ | {"PYTHONPATH": str(ROOT), "GPU_WORKER": "stages=hangs"}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *place.flags()], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any("no LM, 240 s: ok" in line for line in lines)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in rest
    parts = read(place.out).parts
    assert (statuses(place)["tests"], [*parts["stages"].rows]) == ("ok", ["no LM, 240 s"])
    assert number == signal.SIGKILL or "1 cut short (stages)" in place.report.read_text()
    place.asked()
    assert place.measure() == 0
    assert place.asked() == [("stages", ["no LM, 240 s"])]


def test_parts_without_time_are_skipped_and_told(place, capsys):
    assert place.measure("--budget", "45s", parts=("stages", "tests")) == 0
    assert statuses(place) == {"tests": "ok", "stages": "skip"}
    assert "stages: no time: needs about 20 s; " in capsys.readouterr().err
    shown = " ".join(place.report.read_text().split())
    assert "1 cut short (stages)" in shown and "There was no time for all of stages: " in shown
    (budget,) = re.findall(r"started again with `--budget (\w+)`", shown)
    assert place.measure("--budget", budget, parts=("stages",)) == 0
    assert statuses(place)["stages"] == "ok" and "no time" not in place.report.read_text()


def test_a_part_that_takes_too_long_is_cut_short_and_no_failure(place, monkeypatch):
    monkeypatch.setenv("GPU_WORKER", "tests=hangs")
    with monkeypatch.context() as patch:
        patch.setattr(run, "OVERTIME", 0.1)
        assert place.measure("--budget", "41s", parts=("tests",)) == 0
    part = read(place.out).parts["tests"]
    reason = "no time: ended after 1 s: it took longer than its share of the budget"
    assert (part.status, part.ended, part.reason) == ("skip", "cut", reason)
    report = place.report.read_text()
    assert "**Nothing failed**: 1 cut short (tests);" in report and "## Tests marked gpu: cut short" in report
    monkeypatch.delenv("GPU_WORKER")
    assert place.measure(parts=("tests",)) == 0  # the control
    part = read(place.out).parts["tests"]
    assert (part.status, part.reason, part.had_s) == ("ok", "", 0)


def test_twice_the_time_is_advised_that_was_too_little():
    tests = PARTS[0]
    assert Outcome(ended="cut", had_s=100.0).needs_s(tests) == 200
    assert Outcome(ended="cut").needs_s(tests) == tests.seconds  # it was not begun


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_one_line_and_the_file_is_as_before(place, monkeypatch, capsys):
    assert place.measure(parts=("tests",)) == 0
    before = place.out.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", full)
        assert place.measure() == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("gpu: --out: ") and "cannot be written: No space left" in last
    assert place.out.read_bytes() == before
    assert place.measure() == 0  # the control


REFUSED = {
    "a folder": (2, ["--out", "."], "must end in .json"),
    "no place": (2, ["--out", "/dev/null/g.json"], "cannot be made"),
    "no record": (2, ["--out", "other.json"], "would be lost"),
    "a broken record": (2, ["--out", "broken.json"], "cannot be read"),
    "no report": (2, ["--out", "notes.json"], "would be lost"),
    "no part": (2, ["--parts", "lunch"], "invalid choice"),
    "no time": (2, ["--budget", "0"], "too little"),
    "no device": (2, ["--device", "tpu"], "device"),
    "no card": (3, ["--device", "auto"], "there is no CUDA card here"),
    "no weights": (3, ["--source", "/nowhere"], "/nowhere"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_one_line_before_anything_runs(place, monkeypatch, capsys, name):
    code, flags, words = REFUSED[name]
    monkeypatch.chdir(place.out.parent)
    monkeypatch.setattr(run, "detect", lambda device, environ: detected(device))
    Path("other.json").write_text("{}")
    Path("broken.json").write_text('{"schema": "acestep-gpu/1"')
    Path("notes.md").write_text("# Mine\n")
    assert place.measure(*flags, parts=("tests",)) == code
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert place.asked() == [] and Path("notes.md").read_text() == "# Mine\n"


def detected(device: str):
    """No card, whatever machine this is."""
    from harness.accelerators import detect

    return detect("cpu" if device == "auto" else device, {})


def test_two_runs_do_not_write_one_file(place, capsys):
    with files.held(files.lock_of(place.out)):
        assert place.measure(parts=("tests",)) == 2
    assert "another run is writing" in capsys.readouterr().err


def test_a_cards_calibration_is_written_and_predictions_find_it(place, monkeypatch):
    monkeypatch.setattr(run, "facts_of", lambda *_: CUDA)
    assert place.measure() == 0
    path = place.calibrations / "geforce-rtx-4090-24gb.json"
    assert "To send: `calibrations/geforce-rtx-4090-24gb.json`." in " ".join(place.report.read_text().split())
    measured = calibration.read(path)
    assert (measured.context_mib, measured.launch_us, measured.kernel_us) == (512.5, 3.5, 1.25)
    assert (measured.products[0].tflop_per_s, measured.copies[0].gb_per_s) == (1.5, 950.0)
    assert calibration.find(calibration.cards.find("rtx4090"), place.calibrations).measured == measured


def test_a_calibration_that_cannot_be_written_is_a_row_and_the_next_part_runs(place, monkeypatch):
    monkeypatch.setattr(run, "facts_of", lambda *_: CUDA)
    place.calibrations.touch()
    assert place.measure() == 1
    assert statuses(place) == {"tests": "ok", "calibration": "failed", "stages": "ok"}
    report = " ".join(place.report.read_text().split())
    assert "* file: failed, calibrations: " in report and "To send" not in report
    place.calibrations.unlink()
    assert place.measure() == 0  # the control, which measures nothing again
    assert statuses(place)["calibration"] == "ok" and "To send" in place.report.read_text()


def test_a_rate_that_no_card_has_makes_no_calibration(place, monkeypatch):
    monkeypatch.setattr(run, "facts_of", lambda *_: CUDA)
    monkeypatch.setenv("GPU_WORKER", "calibration=exaggerates")
    assert place.measure() == 1
    assert statuses(place) == {"tests": "ok", "calibration": "failed", "stages": "ok"}
    assert not place.calibrations.exists()


def test_a_dry_run_lists_parts_and_minutes(capsys):
    assert main(["--dry-run", "--budget", "6m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == [part.name for part in run.report.PARTS]
    assert lines[-1].split()[:3] == ["in", "all", "6.0"]


def test_the_real_worker_end_to_end(tmp_path, capsys):
    """Without a card most of it is not to be had, and says so."""
    place = Place(tmp_path)
    assert place.measure(parts=("tests", "calibration")) == 0
    assert statuses(place) == {"tests": "n/a", "calibration": "ok"}
    rows = read(place.out).parts["calibration"].rows
    assert [row.status for row in rows.values()] == ["n/a"] * 3 + ["ok"] * 5
    assert rows["memory"].reason == "context and workspaces: CUDA's alone, and this is cpu"
    assert all(row.values["gb_per_s"] > 0 for row in rows.values() if row.status == "ok")
    assert not place.calibrations.exists()


def test_the_real_worker_names_its_rows_first():
    task = {
        "part": "energy",
        "device": "cpu",
        "source": "synthetic-tiny",
        "limit_s": 60,
        "done": ["no LM, 5 s"],
    }
    process = run.Process([*run.WORKER, json.dumps(task)])
    names, row, end = process.lines(120)
    assert names == ["0.6B, 5 s"] == [row["name"]] and end == run.END
    process.end()


@pytest.mark.nightly  # a minute or two; by day each part runs in test_gpu_parts.py
@pytest.mark.timeout(1200)
def test_a_whole_run_without_a_card(tmp_path):
    place = Place(tmp_path)
    assert place.measure(parts=NAMES) == 0
    outcomes = read(place.out).parts
    assert [*outcomes] == [*NAMES] and {outcome.ended for outcome in outcomes.values()} == {"whole"}
    there = dict.fromkeys(("calibration", "stages", "modes", "peaks"), "ok")
    there["beside"] = "ok" if find_spec("diffusers") else "n/a"
    assert statuses(place) == {"tests": "n/a", **there, "energy": "n/a"}
    captured = outcomes["modes"].rows["captured"]
    assert captured.status == "n/a" and captured.reason.startswith("graphs: only CUDA records steps")
    assert "**Nothing failed**" in place.report.read_text()
