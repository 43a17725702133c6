"""What else the machine did while a cell was measured: told where the platform tells it, None elsewhere."""

import importlib.util
import json
import sys
import time
from collections import namedtuple

import psutil
import pynvml
import pytest
from asv.results import Results
from fake_nvml import FakeGPU, FakeNVML
from places import ROOT

from scripts import asv_conditions

COUNTERS = ("load_before", "load_after", "other_cores", "throttle_events", "quota_waits_s")


@pytest.fixture
def conditions(monkeypatch, tmp_path):
    """The module, on a machine that tells nothing until a test has it tell something."""
    path = ROOT / "benchmarks" / "worker" / "conditions.py"
    spec = importlib.util.spec_from_file_location("conditions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CPUS", tmp_path / "cpu")
    monkeypatch.setattr(module, "QUOTA", tmp_path / "cpu.stat")
    return module


def silence(monkeypatch):
    def unknown(*_, **__):
        raise OSError("not told here")

    for name in ("cpu_times", "cpu_freq", "sensors_temperatures", "Process"):
        monkeypatch.setattr(psutil, name, unknown, raising=False)
    monkeypatch.setattr("os.getloadavg", unknown)
    monkeypatch.setattr("pynvml.nvmlInit", lambda: (_ for _ in ()).throw(pynvml.NVMLError(1)))


def test_what_is_not_told_is_none_and_never_zero(conditions, monkeypatch):
    silence(monkeypatch)
    facts = conditions.since(conditions.read())
    assert facts.pop("cores") >= 1
    assert facts.keys() >= {*COUNTERS, "cpu_mhz", "cpu_temperature_c", "gpu_slowed", "gpu_temperature_c"}
    assert set(facts.values()) == {None}


def test_without_what_it_asks_nothing_fails(conditions, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    facts = conditions.since(conditions.read())
    assert facts["other_cores"] is None and facts["gpu_slowed"] is None


def test_the_work_of_others_is_what_is_not_ones_own(conditions, monkeypatch):
    """Ten seconds in which all cores were busy for 15, of which this process and its children took 4."""
    clock = {"now": 100.0, "busy": 500.0, "own": 50.0}
    monkeypatch.setattr(conditions, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(conditions, "_busy_s", lambda: clock["busy"])
    monkeypatch.setattr(conditions, "_own_s", lambda: clock["own"])
    before = conditions.read()
    clock |= {"now": 110.0, "busy": 515.0, "own": 54.0}
    assert conditions.since(before)["other_cores"] == pytest.approx(1.1)


def test_busy_is_neither_idle_nor_counted_twice(conditions, monkeypatch):
    """A guest's time is also among a user's; what a hypervisor gave to others was not ours to use."""
    times = namedtuple("times", "user system idle iowait steal guest guest_nice")
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(7.0, 2.0, 50.0, 4.0, 1.5, 3.0, 0.5))
    assert conditions._busy_s() == pytest.approx(7 + 2 + 1.5)


def test_own_time_has_that_of_children_that_run(conditions):
    started = psutil.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before, deadline = conditions._own_s(), time.monotonic() + 60
        while conditions._own_s() < before + 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        started.kill()
        started.wait()


def test_counters_of_throttling_are_of_the_time_between(conditions, tmp_path):
    for core in range(2):
        folder = tmp_path / f"cpu/cpu{core}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text("5\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1\nthrottled_usec 250000\n")
    before = conditions.read()
    (tmp_path / "cpu/cpu1/thermal_throttle/core_throttle_count").write_text("8\n")
    (tmp_path / "cpu.stat").write_text("usage_usec 1\nthrottled_usec 1750000\n")
    facts = conditions.since(before)
    assert (facts["throttle_events"], facts["quota_waits_s"]) == (3, 1.5)


@pytest.mark.parametrize(
    ("reasons", "slowed"), [(0x0, False), (0x4, False), (0x40, True), (0x20 | 0x1, True)]
)
def test_a_card_at_its_power_limit_is_at_work_and_a_hot_one_is_slowed(
    conditions, monkeypatch, reasons, slowed
):
    FakeNVML(monkeypatch, FakeGPU(temperature_c=61, reasons=reasons, sm_mhz=1980))
    facts = conditions.since(conditions.read())
    assert (facts["gpu_slowed"], facts["gpu_temperature_c"], facts["gpu_mhz"]) == (slowed, 61, 1980)


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A function that saves a result as asv does, with the plugin, and returns its file's content."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Results, "save", Results.save)  # restored afterwards
    asv_conditions.setup()

    def save():
        result = Results({"machine": "here"}, {}, "c" * 40, 0, "3.11", "checkout", {})
        result.save("results")
        return json.loads((tmp_path / "results" / "here" / "cccccccc-checkout.json").read_text())

    return save


def record(name, environment, **cells):
    path = asv_conditions.RECORDS / f"{name}-{'c' * 12}-timing.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"status": "ok", "env": environment}]
    lines += [{"cell": cell, "conditions": {"other_cores": value}} for cell, value in cells.items()]
    path.write_text("\n".join(map(json.dumps, lines)))


def test_conditions_travel_with_the_result(saved):
    """The newest of every cell of this environment; what is known of others stays, also without records."""
    assert "conditions" not in saved()
    record("20260101T000000-1", "checkout", a=0.1, b=0.2)
    record("20260102T000000-1", "checkout", a=0.3)
    record("20260103T000000-1", "virtualenv", a=0.4)
    expected = {"a": {"other_cores": 0.3}, "b": {"other_cores": 0.2}}
    assert saved()["conditions"] == expected
    for path in asv_conditions.RECORDS.iterdir():
        path.unlink()
    assert saved()["conditions"] == expected
    assert Results.load("results/here/cccccccc-checkout.json").commit_hash == "c" * 40  # asv reads past them
