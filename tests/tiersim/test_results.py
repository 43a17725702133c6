"""Results outlive whoever writes them, and are used again only while they are true."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import msgspec
import pytest
from places import SUPPORT
from tier_records import record

from harness import cards, files, registry
from harness.errors import UsageError
from harness.records import machine
from harness.records.memory import ProcessMemory
from harness.records.telemetry import Reading, Telemetry
from harness.trace import calibration
from tiersim import Case, Record, results
from tiersim.case import resolve
from tiersim.results import Results

PLAN = resolve(Case(8, source="synthetic-tiny", duration_s=10, cap="virtual"))
KEEPING = SUPPORT / "keeping.py"


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, str(KEEPING), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_a_record_comes_back_as_it_was(tmp_path, monkeypatch):
    made = record(8, "oom", 7.5, log="\x1b[31mé\udcff".encode(errors="replace").decode())
    with Results(tmp_path / "a" / "b") as folder:
        folder.add(PLAN, made)
        assert folder.find(PLAN) == made
        assert folder.find(replace(PLAN, cap_bytes=1)) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Results(tmp_path / "a" / "b") as folder:
        assert folder.find(PLAN) is None  # another machine, to all appearances


def test_a_record_of_before_steps_were_graphs_is_read():
    data = msgspec.to_builtins(record(8))
    assert data.pop("graphs") is False
    assert msgspec.convert(data, Record) == record(8)


def test_process_and_card_of_a_case_are_kept_and_are_not_there_where_nothing_was_told(tmp_path):
    process = ProcessMemory(rss_bytes=1, rss_peak_bytes=2, driver_bytes=3)
    readings = (Reading(0.5, 300.0, 1980, None, 60, ("power cap",)),)
    telemetry = Telemetry(seconds=2.0, energy_j=500.0, throttling={"power cap": 1.0}, readings=readings)
    made = record(8, process=process, stage_processes={"diffuse": process}, telemetry=telemetry)
    with Results(tmp_path) as folder:
        folder.add(PLAN, record(8))
        before = msgspec.json.decode(folder._path(PLAN).read_bytes())
        folder.add(PLAN, made)
        assert folder.find(PLAN) == made
        now = msgspec.json.decode(folder._path(PLAN).read_bytes())
    assert now.keys() - before.keys() == {"process", "stage_processes", "telemetry"}
    assert {name: now[name] for name in before} == before


@pytest.mark.parametrize("kind", ["torn", "deep", "endless", "pipe", "folder", "large"])
def test_what_is_no_record_is_run_again(tmp_path, kind):
    with Results(tmp_path) as folder:
        folder.add(PLAN, record(8))
        assert folder.find(PLAN)  # the control
        (path,) = (tmp_path / "cases").iterdir()
        data = path.read_bytes()
        path.unlink()
        if kind in ("torn", "deep", "large"):
            path.write_bytes({"torn": data[:-20], "deep": b"[" * 100_000, "large": data}[kind])
            os.truncate(path, 2**40) if kind == "large" else None
        elif kind == "endless":
            path.symlink_to("/dev/zero")
        else:
            (os.mkfifo if kind == "pipe" else os.mkdir)(path)
        assert folder.find(PLAN) is None


@pytest.mark.parametrize(
    ("rerun", "kept"),
    [
        (None, {"ok", "oom", "host-oom", "invalid", "refused"}),
        ("failed", {"ok"}),
        ("all", set()),
    ],
)
def test_what_could_end_otherwise_is_run_again(tmp_path, rerun, kept):
    found = set()
    with Results(tmp_path, rerun) as folder:
        for status in ("ok", "oom", "host-oom", "invalid", "refused", "timeout", "crash", "error", "skip"):
            folder.add(PLAN, record(8, status))
            if folder.find(PLAN):
                found.add(status)
    assert found == kept


def test_results_rest_on_code_weights_and_machine(tmp_path, monkeypatch):
    stamps = {results.stamp("synthetic-tiny"), results.stamp("synthetic-full")}
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.safetensors").write_bytes(b"1")
    stamps.add(results.stamp(str(weights)))
    (weights / "model.safetensors").write_bytes(b"22")
    stamps.add(results.stamp(str(weights)))
    code = tmp_path / "code"
    monkeypatch.setattr(machine, "ROOT", code)
    stamps.add(results.stamp("synthetic-tiny"))
    for package in registry.PACKAGES:
        (code / package).mkdir(parents=True)
        (code / package / "new.py").write_text("pass")
        stamps.add(results.stamp("synthetic-tiny"))
    (code / "elsewhere").mkdir()
    (code / "elsewhere" / "new.py").write_text("pass")  # the control
    stamps.add(results.stamp("synthetic-tiny"))
    assert len(stamps) == 5 + len(registry.PACKAGES)
    assert results.stamp("synthetic-tiny") in stamps


def test_a_prediction_rests_on_the_calibration_as_well(tmp_path, monkeypatch):
    """What was predicted before a card was measured is predicted again; what ran there is not run again."""
    predicted = resolve(Case(8, card=cards.find("rtx4090"), source="synthetic-tiny"))
    found = calibration.Found(None)
    monkeypatch.setattr(calibration, "find", lambda card: found)
    with Results(tmp_path / "r") as folder:
        for plan in (PLAN, predicted):
            folder.add(plan, record(8))
        assert folder.find(PLAN) and folder.find(predicted)
        found = calibration.Found("calibrated on a card")  # type: ignore[arg-type]
        assert folder.find(PLAN) and folder.find(predicted) is None


def test_a_file_that_is_none_of_ours_is_no_result(tmp_path):
    with Results(tmp_path) as folder:
        folder.add(PLAN, record(8))
        (path,) = (tmp_path / "cases").iterdir()
        for data in (b"", b"{}", path.read_bytes()[:-9], b"\xff"):
            path.write_bytes(data)
            assert folder.find(PLAN) is None


def test_a_folder_without_locks_is_written_all_the_same(tmp_path, monkeypatch):
    def none(path):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files, "_locked", none)
    with Results(tmp_path) as folder:
        folder.add(PLAN, record(8))
        assert folder.find(PLAN) == record(8)


def test_two_runs_do_not_write_one_folder(tmp_path):
    with Results(tmp_path), pytest.raises(UsageError, match="another run"):
        Results(tmp_path)
    with Results(tmp_path):
        pass


def test_a_file_in_the_way_is_said_before_anything_runs(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        Results(tmp_path / "taken")


def test_a_run_killed_in_the_middle_goes_on_where_it_was(tmp_path):
    log = tmp_path / "log"
    process = start("run", tmp_path / "out", log)
    shown = [process.stdout.readline() for _ in range(3)]  # each was written down before it was shown
    kill(process)
    finished = [float(line) for line in shown]
    assert finished == [4, 5, 6]
    again = start("run", tmp_path / "out", log)
    answered = again.communicate(timeout=120)[0].split()
    assert again.returncode == 0
    assert sorted(map(float, answered)) == [float(size) for size in range(4, 12)]  # nothing is lost
    ran = [float(line) for line in log.read_text().split()]
    assert set(ran) == set(map(float, range(4, 12)))
    assert all(ran.count(size) == 1 for size in finished)  # nothing that was finished is repeated


def torn(mode, folder, kills=25) -> int:
    """Kill a process that writes, again and again at random moments; how many files are then not whole."""
    chance, count = random.Random(7), 0
    with start(mode, folder) as keeper:
        for _ in range(kills):
            print(file=keeper.stdin, flush=True)
            writer = int(keeper.stdout.readline())
            time.sleep(chance.random() / 20)
            os.kill(writer, signal.SIGKILL)
            assert keeper.stdout.readline() == "ended\n"
            for path in (folder / "cases").glob("*.json"):
                try:
                    assert len(msgspec.json.decode(path.read_bytes(), type=Record).timeline) == 20_000
                except msgspec.DecodeError:
                    count += 1
    return count


def test_25_kills_while_writing_leave_whole_files(tmp_path):
    assert torn("write", tmp_path) == 0


def test_written_plainly_they_would_not(tmp_path):
    assert torn("tear", tmp_path, kills=8) > 0
