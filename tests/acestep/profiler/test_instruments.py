"""Memory by stage, functions and kernels: each in a run of its own, where its findings can be kept."""

from __future__ import annotations

import json
import re

import pytest
from profiler_runs import SHORT

from acestep.profiler import instruments, measure, modes
from harness import spans
from harness.files import writable
from harness.records import writer as output
from harness.residency import Residency


def test_instruments_have_runs_of_their_own(run, tmp_path):
    trace = tmp_path / "trace.json"
    code, out, _ = run(*SHORT, "--detailed", "--trace", str(trace))
    assert code == 0 and "instrumented times" in out
    assert "function calls" in (tmp_path / "outputs" / "profile-functions.txt").read_text()
    events = json.loads(trace.read_text())["traceEvents"]
    assert any("aten::" in event.get("name", "") for event in events)


MEMORY = "MEMORY AT THE END OF EACH STAGE\n"


def test_memory_is_told_where_each_stage_ends_after_what_is_timed(run, tmp_path, monkeypatch):
    path, timed = tmp_path / "memory.json", []
    run_timed = measure.Bench._run

    def unwatched(self, work):
        timed.append(spans._watcher)
        return run_timed(self, work)

    monkeypatch.setattr(measure.Bench, "_run", unwatched)
    code, out, _ = run(*SHORT, "--no-warmup", "--profile-memory", "--benchmark-output", str(path))
    assert code == 0 and timed == [None]
    [item] = output.load(path)[1]
    memory = item.memory_by_stage
    stages = [one.stage for one in memory.boundaries]
    assert item.samples and memory.error == ""
    assert set(stages) == {"start", *item.samples[0].stages_s} - {"other"}
    lines = out.partition(MEMORY)[2].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["MiB", *stages, "Peaks", "At", "results"]
    for line, one in zip(lines[1:], memory.boundaries, strict=False):
        rss, peak, weights = (
            f"{size / 2**20:,.0f}" for size in (one.rss_bytes, one.rss_peak_bytes, one.weights_bytes)
        )
        assert line.split() == [one.stage, rss, peak, *["n/a"] * 4, weights]
        assert one.weights_bytes > 0 and len(line) == 80
    assert lines[-3].endswith(f"that of RSS is {memory.rss_source}.") and len(lines[-3]) <= 80
    swap = "n/a" if memory.most("swap_bytes") is None else f"{memory.most('swap_bytes') / 2**20:,.0f}"
    assert lines[-2] == f"At most, in MiB: context n/a, spilled n/a, swap {swap}."
    assert item.memory_bytes.keys() <= {"rss", "swap"} and "energy" not in out
    assert not item.samples[0].telemetry


def test_less_memory_than_the_weights_take_is_an_error_of_the_measurement(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Residency, "resident_bytes", 2**50)
    path = tmp_path / "memory.json"
    code, _, err = run(*SHORT, "--no-warmup", "--profile-memory", "--benchmark-output", str(path))
    [item] = output.load(path)[1]
    assert code == 1 and item.status == "ok" and item.samples  # what was timed is kept
    assert err.endswith(f"profile_inference: memory: {item.memory_by_stage.error}\n")
    assert item.memory_by_stage.error.startswith("start: the RSS peak of ")


def test_words_are_looked_into_as_music_is(run, tmp_path):
    path = tmp_path / "new" / "trace.json"
    instruments_of = ("--profile-memory", "--detailed", "--trace", str(path))
    code, out, _ = run("--mode", "create_sample", "--no-warmup", *instruments_of)
    assert code == 0 and "instrumented times" in out and f"trace    {path}" in out
    assert re.search(rf"{MEMORY}=+\n  MiB .+\n  start .+\n(?:  lm_prefill .+\n)+  lm_decode ", out)
    assert "describe" in (tmp_path / "outputs" / "profile-functions.txt").read_text()
    assert any("aten::" in event.get("name", "") for event in json.loads(path.read_text())["traceEvents"])
    for name, file in {"trace": path, "detailed": tmp_path / "outputs" / "profile-functions.txt"}.items():
        writable(name, file, instruments.OURS[name])  # the next run replaces them


@pytest.mark.parametrize("mode", ["profile", "create_sample"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--trace", "."), "--trace: '.' is there and is no file"),
        (("--trace", "/proc/trace.json"), "--trace: '/proc/trace.json' cannot be written"),
        (("--trace", "taken/trace.json"), "--trace: 'taken/trace.json' cannot be written: Not a dir"),
        (("--trace", "a\udcff.json"), r"--trace: 'a\udcff.json' is not UTF-8; name another"),
        (
            ("--trace", "x/../a.json", "--benchmark-output", "a.json"),
            "--trace: 'x/../a.json' is the file of --benchmark-output as well",
        ),
        (
            ("--detailed", "--benchmark-output", "taken/a.json"),
            "--detailed: 'taken/profile-functions.txt' can",
        ),
        (
            ("--detailed", "--trace", "outputs/profile-functions.txt"),
            "--detailed: 'outputs/profile-functions.txt' is the file of --trace as well",
        ),
    ],
)
def test_a_bad_place_for_what_an_instrument_finds_is_refused_before_anything_runs(
    run, tmp_path, monkeypatch, mode, flags, words
):
    monkeypatch.setattr(modes, "_bench", lambda *_: pytest.fail("loaded"))
    (tmp_path / "taken").touch()
    code, _, err = run("--mode", mode, *flags)
    assert code == 2 and err.startswith(f"profile_inference: {words}") and err.count("\n") == 1
