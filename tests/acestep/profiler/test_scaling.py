"""The mode `scaling` on tiny weights: what is measured and kept, and that what is shown follows from it."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from acestep import scaling as calls
from acestep.profiler import command as profiler
from acestep.profiler import growth, scaling
from acestep.weights.layout import LMS
from harness import files
from harness.errors import MissingPrerequisite
from harness.page import is_page
from harness.records import machine
from harness.records.schema import Item, Sample
from harness.records.writer import load
from harness.scaling import Estimate, fit

SHORT = {"QUICK_S": (1, 2), "QUICK_TOKENS": (4, 8), "COMPONENTS": ("dit_step", "resample", "text_encode")}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """The mode at short lengths of some components, in an empty folder: exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    monkeypatch.setattr(machine, "revision", lambda: ("0" * 40, False))
    for name, value in SHORT.items():
        monkeypatch.setattr(scaling, name, value)

    def command(*arguments: str):
        words = ["--mode", "scaling", "--quick", "--repeats", "2", "--lm-model", LMS[0], *arguments]
        monkeypatch.setattr(sys, "argv", ["profile_inference.py", *words])
        code = profiler.main(words, tier_test=lambda line: pytest.fail("tier test"))
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def timed(monkeypatch) -> list[tuple[str, int]]:
    """Points as they are measured; the times are made up."""
    points = []

    def measured(engine, point, options, facts):
        points.append((point.component, point.length))
        times = [0.5 + 0.02 * point.length * (1 + 0.01 * run) for run in range(options.repeats)]
        return Item(
            **facts, status="ok", samples=tuple(Sample(wall_s=s) for s in times), counts={"frames": 1}
        )

    monkeypatch.setattr(scaling, "_timed", measured)
    monkeypatch.setattr(scaling, "_load", lambda setup: type("Engine", (), {"environment": {}}))
    monkeypatch.setattr(scaling, "_predicted", lambda *_: {})
    return points


def test_times_are_measured_once_and_all_that_is_shown_is_computed_from_them(run, tmp_path):
    code, out, _ = run("--benchmark-output", "s.json", "--html", "s.html", "--card", "rtx4060")
    assert code == 0
    _, items = load(tmp_path / "s.json")
    points = [(item.requested["component"], item.requested["length"]) for item in items]
    assert points == [
        (name, n) for name in SHORT["COMPONENTS"] for n in ((4, 8) if "text" in name else (1, 2))
    ]
    assert all(item.status == "ok" and len(item.samples) == 2 and item.counts for item in items)
    dit, resample = items[0], items[2]
    assert dit.effective["predicted"]["flop"].keys() == {"matmul", "attention"}
    assert "4060" in dit.effective["predicted"]["card"] and "4060" in out
    assert resample.effective["predicted"] is None and "mel" in out  # soxr is on the host
    times = {n: [s.wall_s for s in item.samples] for n, item in zip((1, 2), items[:2], strict=True)}
    estimate = fit(times, seed=dit.requested["seed"]).exponent
    assert growth._interval(estimate) in out
    assert max(map(len, out[out.index("component ") : out.index("results ")].splitlines())) <= growth.WIDTH
    for scale in (1e-6, 1e-4, 1e-3, 0.1, 1, 10, 100):  # the widest there is: all below zero but one
        assert len(growth._interval(Estimate(-1.234567, -4.56789, 7.89123), scale)) <= growth.WIDTHS[-1]
    page = (tmp_path / "s.html").read_bytes()
    assert is_page(page) and page.count(b"<svg") == 2 and growth._interval(estimate).encode() in page


def test_an_interrupted_run_keeps_what_it_measured_and_goes_on(run, timed, monkeypatch, tmp_path):
    measured = scaling._timed

    def stops(*arguments):
        if len(timed) == 3:
            raise KeyboardInterrupt(2)
        return measured(*arguments)

    monkeypatch.setattr(scaling, "_timed", stops)
    assert run("--benchmark-output", "s.json")[0] == 130
    assert len(load(tmp_path / "s.json")[1]) == 3
    monkeypatch.setattr(scaling, "_timed", measured)
    timed.clear()
    code, out, _ = run("--benchmark-output", "s.json")
    assert code == 0 and timed == [("resample", 2), ("text_encode", 4), ("text_encode", 8)]
    assert len(load(tmp_path / "s.json")[1]) == 6 and out.count("resample ") == 3
    timed.clear()
    assert run("--benchmark-output", "s.json", "--no-resume")[0] == 0 and len(timed) == 6


@pytest.mark.parametrize(
    "error, status, code",
    [
        (RuntimeError("latents went NaN"), "error", 1),
        (MissingPrerequisite("lm: none is there"), "skip", 0),
        (MemoryError("no room"), "host-oom", 1),
    ],
    ids=["error", "missing", "memory"],
)
def test_a_failure_is_an_item_and_the_others_go_on(run, timed, monkeypatch, tmp_path, error, status, code):
    measured = scaling._timed

    def fails(engine, point, *rest):
        if (point.component, point.length) == ("resample", 2):
            raise error
        return measured(engine, point, *rest)

    monkeypatch.setattr(scaling, "_timed", fails)
    ended, out, _ = run("--benchmark-output", "s.json")
    assert ended == code
    items = load(tmp_path / "s.json")[1]
    assert [item.status for item in items] == ["ok", "ok", "ok", status, "ok", "ok"]
    reason = "host memory ran out" if status == "host-oom" else str(error)
    assert (items[3].exception is not UNSET) == (reason != str(error))  # what was raised is kept
    assert (
        f"{status}: {reason}" in out and f"resample    n/a: {reason}" in out
    )  # of one length there is no growth


def test_a_dry_run_says_what_would_run_and_loads_nothing(run, monkeypatch):
    monkeypatch.setattr(scaling, "_load", lambda setup: pytest.fail("loaded"))
    monkeypatch.setattr(scaling, "_predicted", lambda *_: pytest.fail("traced"))
    code, out, _ = run("--dry-run")
    assert code == 0 and "dit_step     1, 2 s\n" in out and "text_encode  4, 8 tokens\n" in out


@pytest.mark.parametrize(
    "words, reason",
    [
        (("--json-compat",), "--json-compat: has no meaning in mode scaling"),
        (("--duration", "10"), "--duration: has no meaning in mode scaling"),
        (("--card", "rtx9999"), "card: 'rtx9999' is not known"),
        (("--html", "s.json", "--benchmark-output", "s.json"), "is the file of --benchmark-output as well"),
        (("--html", "notes.html"), "would be lost"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(run, timed, tmp_path, words, reason):
    (tmp_path / "notes.html").write_text("<!doctype html>\nmine")
    code, _, err = run(*words)
    assert code == 2 and reason in err and err.count("\n") == 1 and not timed


def test_where_no_page_can_be_is_told_before_anything_runs(run, timed, tmp_path):
    (tmp_path / "outputs").touch()  # the folder of the page that nobody named
    code, _, err = run()
    assert code == 2 and "--html: 'outputs/scaling.html' cannot be written: Not a directory" in err
    assert err.count("\n") == 1 and not timed


def test_a_page_without_room_is_told_after_what_was_measured(run, timed, monkeypatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_whole", full)
    code, out, err = run()
    assert code == 1 and "6 of 6 points measured" in out
    assert err.endswith(
        "outputs/scaling.html': cannot be written: No space left on device; it is as before\n"
    )


def test_the_modes_of_the_flags(run, capsys):
    words = ["--mode", "profile", "--quick"]
    assert profiler.main(words, tier_test=lambda line: 0) == 2
    assert "--quick: has no meaning in mode profile" in capsys.readouterr().err


def item(component: str, length: int, times: list[float]) -> Item:
    requested = {"component": component, "length": length, "unit": "s", "seed": 0}
    samples = tuple(Sample(wall_s=s) for s in times)
    return Item(key="", mode="scaling", requested=requested, effective={"predicted": None}, status="ok",
                samples=samples)  # fmt: skip


def test_what_an_interval_does_not_tell_is_said_and_what_it_tells_is_not():
    scatter = (0.7, 1.0, 1.3)
    noisy = [item("noisy", n, [n * share for share in scatter]) for n in (5, 6)]
    steep = [item("steep", n, [n**2 * share for share in (0.99, 1.0, 1.01)]) for n in (5, 30, 60)]
    answer = growth.growth_lines([*noisy, *steep], 0)[0]
    fastest = max(growth.grown([*noisy, *steep], 0), key=lambda one: one.growth.exponent.value)
    points = f"{len(noisy) + len(steep)} of {len(noisy) + len(steep)} points measured"
    exponent = fastest.growth.exponent.value
    assert answer == f"{points}: {fastest.component} grows fastest, as length^{exponent:.2f}."
    unknown = [line for line in growth.growth_lines([*noisy, *steep], 0) if line.startswith("cannot tell")]
    assert unknown == ["cannot tell exponent from 1: noisy", "cannot tell intercept from 0: noisy"]


def test_an_error_of_a_record_gives_the_terminal_no_orders():
    broken = replace(item("broken", 5, []), status="error", error="no\x1b[2J room")
    assert "broken      n/a: no\\x1b[2J room" in growth.growth_lines([broken], 0)


def test_lengths_and_names_are_those_of_the_calls():
    assert (*calls.PREPARED,) == scaling.COMPONENTS
    assert {*scaling.OF_TOKENS} == calls.TOKENS and {*scaling.ON_HOST} == calls.ON_HOST
    assert max(scaling.LENGTHS_TOKENS) == calls.MOST_TOKENS


def test_a_table_names_what_was_measured(run, timed, tmp_path):
    assert run("--benchmark-output", "s.md")[0] == 0
    head, _, first, *_ = (tmp_path / "s.md").read_text().splitlines()[2:]
    assert head.startswith("| mode | component | length | unit |") and first.startswith("| scaling | dit")
