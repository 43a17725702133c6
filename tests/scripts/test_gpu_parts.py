"""The parts of `scripts.gpu`: steps and their time, and what of them a CPU runs."""

import itertools
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from places import ROOT
from tier_records import record

from harness import cards, graphs
from harness.accelerators import Accelerator
from harness.errors import BenchError, MissingPrerequisite, UsageError
from harness.graphs import recorders
from harness.trace.calibration import Calibration
from scripts import network_pairs
from scripts.gpu import plan, steps
from scripts.gpu.parts import beside, calibration, energy, modes, peaks, stages
from scripts.gpu.parts import tests as marked_tests
from scripts.gpu.plan import PARTS, TINY, allotment_s, enough_s
from scripts.gpu.steps import Clock, Measured, Step, Task, rows
from scripts.in_turn import Ratio, in_turn

TASK = Task(part="any", device="cpu", source="synthetic-tiny", limit_s=600.0)
SHORT = replace(TINY, durations_s=(5,), pairs=1, tokens=2, tiers_gb=(8,))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(steps, "sizes_of", lambda source: SHORT)


def step(name: str, seconds: float, clock: list[float], work: float = 1.0) -> Step:
    def run() -> Measured:
        clock[0] += seconds
        return Measured({"seconds": seconds})

    return Step(name, run, work)


def test_what_takes_as_long_as_any_so_far_is_left_out_once_there_is_no_time():
    now = [0.0]
    todo = [step("a", 10, now), step("b", 20, now, 2), step("c", 50, now, 5), step("d", 5, now, 1)]
    measured = list(rows(todo, TASK, Clock(60.0, lambda: now[0])))
    assert [row.status for row in measured] == ["ok", "ok", "skip", "ok"]
    assert (measured[2].reason, measured[2].needs_s) == ("no time: needs about 50 s; 30 s were left", 50)
    assert [row.took_s for row in measured] == [10, 20, 0, 5]


def test_loading_is_not_what_the_next_one_takes_again():
    now = [0.0]

    def loads() -> Measured:
        now[0] += 30
        return Measured({}, repeat_s=2.0)

    measured = rows([Step("a", loads, 1), step("b", 4, now, 2)], TASK, Clock(40.0, lambda: now[0]))
    assert [row.status for row in measured] == ["ok", "ok"]


def test_rows_that_are_there_are_not_made_again():
    never = Step("a", lambda: pytest.fail("ran"))
    task = Task(part="any", device="cpu", source="synthetic-tiny", limit_s=9.0, done=("a",))
    assert [row.name for row in rows([never, step("b", 0, [0.0])], task, Clock(9.0))] == ["b"]


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (MissingPrerequisite("no card"), "n/a", "no card"),
        (UsageError("over the limit of tier4"), "n/a", "over the limit of tier4"),
        (BenchError("silent"), "failed", "silent"),
        (MemoryError("DefaultCPUAllocator"), "failed", "out of memory: host memory ran out"),
        (ValueError("\x1b[2J"), "failed", "\\x1b[2J"),
    ],
)
def test_a_step_that_raises_is_a_row_with_its_reason(error, status, reason):
    def fails() -> Measured:
        raise error

    first, second = rows([Step("a", fails), step("b", 0, [0.0])], TASK, Clock(9.0))
    assert (first.status, second.status) == (status, "ok") and reason in first.reason


def test_of_a_pair_either_is_first_in_turn():
    order: list[str] = []
    pairs = [*in_turn(lambda: order.append("a") or "a", lambda: order.append("b") or "b", 3)]
    assert "".join(order) == "abbaab" and pairs == [("a", "b")] * 3
    assert Ratio.of([(2.0, 1.0), (9.0, 3.0), (4.0, 4.0)]) == (2.0, 1.0, 3.0)


def test_shares_of_a_budget_add_up_to_it_and_are_no_more_than_is_left():
    for budget_s in (60.0, 200.0, 690.0, 3600.0):
        left_s = budget_s
        for index, part in enumerate(PARTS):
            left_s -= allotment_s(part, PARTS[index + 1 :], left_s)
        assert -1e-6 <= left_s < max(part.least_s for part in PARTS)
    assert sum(part.seconds for part in PARTS) + plan.SPARE_S <= plan.BUDGET_S


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@pytest.mark.parametrize("needs_s", [1.0, 40.0, 900.0])
def test_a_budget_that_is_advised_is_enough_for_each_part_it_is_for(part, needs_s):
    """One of them needs so much, each other one half of its share. The control: of one alone a second less is
    too little."""
    todo = [one for one in PARTS if one.name != "modes"]
    needed_s = {one.name: max(needs_s if one == part else one.seconds / 2, one.least_s) for one in todo}
    left_s = enough_s(needed_s) - plan.SPARE_S
    for index, one in enumerate(todo):
        assert allotment_s(one, todo[index + 1 :], left_s) >= needed_s[one.name] - 1e-6
        left_s -= needed_s[one.name]
    alone_s = enough_s({part.name: needs_s}) - plan.SPARE_S
    assert allotment_s(part, [], alone_s) >= needs_s > allotment_s(part, [], alone_s - max(1.0, part.least_s))


def test_stages_have_shares_of_peaks(short):
    task = msgspec.structs.replace(TASK, done=("no LM, 5 s",))
    (row,) = rows(stages.steps(task), task, Clock(600.0))
    assert (row.name, row.status, row.reason) == ("0.6B, 5 s", "ok", "")
    assert all(row.values[name] > 0 for name in ("diffuse_mfu", "vae_decode_mfu", "lm_decode_mbu"))  # type: ignore[operator]
    assert row.values["peaks"] == "measured here, float32"
    assert row.items[0].counts["audio_s"] == 5 and row.items[0].samples


def test_launches_and_kernels_are_named_as_predictions_read_them(short, monkeypatch):
    """On a CPU the same code times calls, and records nothing."""
    monkeypatch.setattr(Task, "need_cuda", lambda *_: None)
    values = calibration._launches(TASK).values
    assert values.keys() <= set(Calibration.__struct_fields__) and all(value > 0 for value in values.values())  # type: ignore[operator]


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:1", 1)])
def test_memory_is_that_of_the_card_that_was_named(monkeypatch, device, number):
    """The driver and PyTorch are asked by its number: a card without one is refused by PyTorch."""
    asked = []

    def stop(*_, **__):
        raise InterruptedError

    monkeypatch.setattr(calibration, "driver_reading", lambda index: (asked.append(index), ""))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", asked.append, raising=False)
    monkeypatch.setattr(torch, "ones", stop)
    with pytest.raises(InterruptedError):
        calibration._memory(msgspec.structs.replace(TASK, device=device))
    assert asked == [number, number]


def test_kernels_that_cannot_be_recorded_are_not_timed_as_if_they_were(short, monkeypatch):
    class Failing:
        def record(self, step):
            raise RuntimeError("operation not permitted")

    monkeypatch.setattr(Task, "need_cuda", lambda *_: None)
    monkeypatch.setitem(recorders, "cpu", lambda device: Failing())
    with pytest.raises(BenchError, match="cannot be recorded: RuntimeError: operation not permitted"):
        calibration._launches(TASK)


def test_what_a_cpu_cannot_record_says_so(short):
    captured = next(row for row in rows(modes.steps(TASK), TASK, Clock(600.0)) if row.name == "captured")
    assert captured.status == "n/a"
    assert captured.reason.startswith("graphs: only CUDA records steps, and the device is cpu")


def test_a_mode_that_fell_back_says_so_in_its_row(short, monkeypatch):
    """Called instead of replayed, captured would stand as fast as eager."""

    class Failing:
        def record(self, step):
            raise RuntimeError("operation not permitted")

    monkeypatch.setitem(recorders, "cpu", lambda device: Failing())
    monkeypatch.setattr(graphs, "unavailable", lambda device: None)
    monkeypatch.setattr(modes, "MODES", {"captured": modes.MODES["captured"]})
    (row,) = rows(modes.steps(TASK), TASK, Clock(600.0))
    assert (row.status, row.values["pairs"]) == ("failed", 1)
    assert "lm_decode: not recorded" in row.reason and "diffuse: not recorded" in row.reason


def test_a_mode_is_timed_beside_eager_in_turn(short, monkeypatch):
    monkeypatch.setattr(modes, "MODES", {"eager again": modes.EAGER})
    (row,) = rows(modes.steps(TASK), TASK, Clock(600.0))
    assert row.status == "ok" and row.values["audio_off"] == 0.0
    assert row.values["wall_low"] <= row.values["wall_ratio"] <= row.values["wall_high"]  # type: ignore[operator]
    assert len(row.items) == 2 and row.values["lm_decode_ratio"]


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")  # diffusers'
def test_networks_of_others_beside_ours_compute_the_same(short, monkeypatch):
    pytest.importorskip("diffusers")
    their = network_pairs._their_decoder
    monkeypatch.setattr(network_pairs, "_their_decoder", lambda *of: partial(torch.neg, their(*of)()))
    dit, control = itertools.islice(rows(beside.steps(TASK), TASK, Clock(600.0)), 2)
    assert dit.status == "ok" and dit.values["ratio"] > 0  # type: ignore[operator]
    assert 0 <= dit.values["off"] < 1e-4  # type: ignore[operator]
    assert control.values["off"] == pytest.approx(2, abs=1e-4)
    assert (control.status, control.reason) == ("failed", "not the same network: off by 2 of its RMS")


def test_without_their_libraries_they_are_not_to_be_had(short, monkeypatch):
    monkeypatch.setattr(network_pairs.oracles, "import_module", _missing)
    for row in rows(beside.steps(TASK), TASK, Clock(600.0)):
        assert row.status == "n/a" and "is not installed" in row.reason


def _missing(name: str) -> None:
    raise ImportError(name)


STAGES = {"load": 5 << 30, "diffuse": 6 << 30, "vae_decode": 4 << 30}
REAL = record(8, peak_gb=6.5, stage_peaks_bytes=STAGES)
HIGHER = {"load": 9 << 30, "diffuse": 6 << 30, "vae_decode": 5 << 30, "post": 1}
PREDICTED = record(8, peak_gb=6.6, stage_peaks_bytes=HIGHER)


@pytest.mark.parametrize(
    ("real", "predicted", "status", "reason"),
    [
        (REAL, PREDICTED, "ok", ""),
        (record(8, "skip"), PREDICTED, "n/a", "it was skip"),
        (record(8, "oom", peak_gb=7.5), PREDICTED, "failed", "ran: oom; predicted: ok"),
        (REAL, record(8, "error"), "failed", "run: ok ; predicted: error it was error"),
    ],
)
def test_peaks_stand_beside_their_prediction(short, monkeypatch, real, predicted, status, reason):
    monkeypatch.setattr(peaks, "compare", lambda *_: (real, predicted))
    on_card = msgspec.structs.replace(TASK, device="cuda")
    (row,) = rows(peaks.steps(on_card), on_card, Clock(600.0))
    assert (row.status, row.reason) == (status, reason)
    if status == "ok":
        assert row.values["off"] == pytest.approx(6.6 / 6.5 - 1)
        assert (row.values["worst_stage"], row.values["worst_off"]) == ("vae_decode", 0.25)


def test_the_card_that_is_here_is_the_tables_or_described_by_itself(monkeypatch):
    here = Accelerator("cuda", "NVIDIA GeForce RTX 4090", 23.5)
    monkeypatch.setattr(peaks, "detect", lambda *_: here)
    assert peaks.this_card("cuda") == cards.find("rtx4090")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 9))
    here = Accelerator("cuda", "NVIDIA RTX 9999", 30.0)
    assert (peaks.this_card("cuda").capability, peaks.this_card("cuda").memory_gib) == ((9, 9), 30.0)


def test_joules_are_a_difference_of_the_counter():
    joules, now = iter((100.0, 160.0)), [0.0]

    def run() -> None:
        now[0] += 2.0

    measured = energy.measure(run, lambda: next(joules), 30.0, 5.0, lambda: now[0]).values
    assert measured == {
        "songs": 3,
        "joules_per_song": 20.0,
        "joules_per_audio_s": pytest.approx(2 / 3),
        "mean_w": 10.0,
        "seconds_per_song": 2.0,
    }


def test_marked_tests_are_counted_and_failures_named(tmp_path):
    (tmp_path / "test_a.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, '<b>'\n"
        "@pytest.mark.skip\ndef test_left(): pass\n"
    )
    measured = marked_tests.run_tests([Path("test_a.py")], 60.0, "-p", "no:randomly", root=tmp_path)
    counts = {name: measured.values[name] for name in ("passed", "failed", "skipped")}
    assert counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert measured.error.startswith("test_a::test_bad: AssertionError: <b>")
    assert "test_good" not in measured.error and "assert 1 == 2" in str(measured.values["log"])


@pytest.mark.parametrize("first", ["pass", "assert 1 == 2"])
def test_marked_tests_that_are_not_through_are_cut_short_and_those_that_ran_are_counted(
    tmp_path, monkeypatch, first
):
    """The control: one of them failed, and that is what is told."""
    (tmp_path / "test_a.py").write_text(
        "import pathlib, time\n"
        f"def test_first(): {first}\n"
        "def test_long():\n"
        "    pathlib.Path('begun').touch()\n"
        "    time.sleep(600)\n"
    )
    ends = marked_tests._ends

    def once_begun(process, limit_s):
        while not (tmp_path / "begun").exists():
            time.sleep(0.01)
        return ends(process, 0.0)

    monkeypatch.setattr(marked_tests, "_ends", once_begun)
    run = partial(marked_tests.run_tests, [Path("test_a.py")], 60.0, "-p", "no:randomly", root=tmp_path)
    (row,) = rows([Step("pytest", run)], TASK, Clock(600.0))
    failed = first != "pass"
    assert row.needs_s > 0  # what did not run takes more time, whatever came of what did
    assert (row.values["passed"], row.values["failed"]) == (not failed, failed)
    if failed:
        assert row.status == "failed" and row.reason.startswith("not through after 60 s; test_a::test_first:")
    else:
        assert (row.status, row.reason) == ("skip", "no time: not through after 60 s")


def test_every_file_with_such_tests_is_found():
    found = {path.name for path in marked_tests.marked(ROOT / "tests")}
    assert {"test_memory.py", "test_residency.py", "test_engine.py"} <= found
    assert not {"test_cards.py", marked_tests.ELSEWHERE} & found
