"""The modes on tiny weights: what is run, what is printed, what is kept."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fake_nvml import FakeGPU, FakeNVML
from guides import GUIDES
from msgspec.structs import replace as changed
from places import ROOT
from roots import checkpoint

from acestep import engine as engines
from acestep import resolver
from acestep.cli.examples import INPUTS
from acestep.profiler import command as profiler
from acestep.profiler import instruments, matrix, measure, modes, prepare, request, show, streaming
from acestep.profiler.options import parse
from acestep.profiler.tables import NONE
from acestep.subject import SUBJECT
from acestep.weights.layout import LMS
from harness import spans
from harness.files import writable
from harness.progress import Progress
from harness.records import machine, performance_plan
from harness.records import writer as output
from harness.records.schema import Item, Profile, Sample
from harness.records.telemetry import Telemetry
from harness.residency import Residency
from harness.telemetry import CardSampler
from tiersim import __main__ as tiersim

SHORT = ("--duration", "10", "--inference-steps", "2")
ONE_CELL = ("--mode", "benchmark", *SHORT, "--batch-size", "1", "--repeats", "1")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    """The command in an empty folder, on tiny weights, with examples of ten seconds, two steps and short
    lyrics: exit code and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    monkeypatch.setattr(machine, "revision", lambda: ("0" * 40, False))
    load = request.load_example

    def short(*source):
        params, config = load(*source)
        return replace(params, duration=10, inference_steps=2), config

    monkeypatch.setattr(request, "load_example", short)
    sampled = request._sampled
    monkeypatch.setattr(
        request,
        "_sampled",
        lambda *asked: replace(sampled(*asked), max_caption_tokens=8, max_lyrics_tokens=16),
    )

    def command(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["profile_inference.py", *arguments])
        code = profiler.main(arguments, tier_test=lambda line: tiersim.main([*line, "--dry-run"]))
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list:
    """Every plan that is resolved while the test runs."""
    plans, resolve = [], resolver.resolve
    monkeypatch.setattr(resolver, "resolve", lambda *request: plans.append(resolve(*request)) or plans[-1])
    return plans


def test_a_profile_adds_up_and_is_kept(run, resolved, tmp_path):
    path = tmp_path / "profile.json"
    code, out, _ = run("--thinking", *SHORT, "--llm-debug", "--benchmark-output", str(path))
    assert code == 0 and len(resolved) == 1  # warmed up, run, and its plan run again without guidance
    assert re.match(r"10 s of music in [\d.]+ s on .+: [\d.]+ times (faster|slower) than playing; ", out)
    for words in (
        "TIME COSTS BREAKDOWN",
        "CFG overhead",
        "LLM DEBUG",
        "Audio codes             50",
        "Next: ",
    ):
        assert words in out
    shares = re.findall(r"^  [LDVAO].*?([\d.]+)%$", out, re.MULTILINE)
    assert sum(map(float, shares)) == pytest.approx(100)
    header, [item] = output.load(path)
    assert header.mode == "profile" and header.lm and item.status == "ok"
    assert header.ended_utc is not None and header.ended_utc > header.started_utc
    [sample] = item.samples
    assert sum(sample.stages_s.values()) == pytest.approx(sample.wall_s, rel=0.01)
    assert item.counts["audio_codes"] == 50 and item.cold and item.cold.first_call_s
    assert item.effective["dtype"] == "float32" and item.requested["duration"] == 10
    assert item.rtf == pytest.approx(sample.wall_s / 10)


STREAMED = (*SHORT, "--streaming", "--chunk", "4", "--no-warmup")


def test_a_stream_is_profiled_as_it_is_heard(run, tmp_path):
    path = tmp_path / "profile.json"
    code, out, _ = run(*STREAMED, "--thinking", "--lm-cfg-scale", "1", "--benchmark-output", str(path))
    assert code == 0
    for words in ("TIME COSTS BREAKDOWN", "STREAM", "3 of 4 s", "As made at once         yes, but for "):
        assert words in out
    [item] = output.load(path)[1]
    [sample] = item.samples
    heard = sample.stream
    assert item.status == "ok" and item.requested["chunk_s"] == 4
    assert sum(sample.stages_s.values()) == pytest.approx(sample.wall_s, rel=0.01)
    assert 0 < heard.time_to_first_code_ms < heard.time_to_latents_ms < heard.time_to_first_chunk_ms
    assert sample.first_audio_s == pytest.approx(heard.time_to_first_chunk_ms / 1e3)
    assert len(heard.chunk_latencies_ms) == 2 and heard.offline_error < 5e-5
    assert f"First chunk             {heard.time_to_first_chunk_ms:,.1f} ms\n" in out
    assert f"worst {max(heard.chunk_latencies_ms):,.1f} ms\n" in out


def test_a_stream_that_is_not_what_is_made_at_once_has_failed(run, tmp_path, monkeypatch):
    path = tmp_path / "profile.json"
    monkeypatch.setattr(streaming, "largest_error", lambda chunks, offline: 0.25)
    code, out, _ = run(*STREAMED, "--benchmark-output", str(path))
    problem = "the stream is 0.25 of the peak from what is made at once, over 5e-05"
    assert (
        code == 1
        and f"As made at once         no: {problem}" in out
        and f"First code              {NONE}" in out
    )
    [item] = output.load(path)[1]
    assert (item.status, item.error, item.samples[0].stream.offline_error) == ("invalid", problem, 0.25)


def test_without_warm_up_the_cold_figures_are_the_sample(run, tmp_path):
    path = tmp_path / "profile.json"
    code, out, _ = run(*SHORT, "--no-warmup", "--benchmark-output", str(path))
    assert code == 0 and "no warm-up" in out and "LLM Planning" not in out
    [item] = output.load(path)[1]
    assert len(item.samples) == 1 and item.cold and item.cold.first_call_s is None


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
    found = item.memory_by_stage
    stages = [one.stage for one in found.boundaries]
    assert item.samples and found.error == ""
    assert set(stages) == {"start", *item.samples[0].stages_s} - {"other"}
    lines = out.partition(MEMORY)[2].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["MiB", *stages, "Peaks", "At", "results"]
    for line, one in zip(lines[1:], found.boundaries, strict=False):
        rss, peak, weights = (
            f"{size / 2**20:,.0f}" for size in (one.rss_bytes, one.rss_peak_bytes, one.weights_bytes)
        )
        assert line.split() == [one.stage, rss, peak, *["n/a"] * 4, weights]
        assert one.weights_bytes > 0 and len(line) == 80
    assert lines[-3].endswith(f"that of RSS is {found.rss_source}.") and len(lines[-3]) <= 80
    swap = "n/a" if found.most("swap_bytes") is None else f"{found.most('swap_bytes') / 2**20:,.0f}"
    assert lines[-2] == f"At most, in MiB: context n/a, spilled n/a, swap {swap}."
    assert item.memory_bytes.keys() <= {"rss", "swap"} and "energy" not in out
    assert not item.samples[0].telemetry


@pytest.fixture
def hot_card(monkeypatch) -> FakeGPU:
    """A card that is too hot, beside whatever the engine runs on; a song takes it 60 J."""
    gpu = FakeGPU(reasons=0x4 | 0x40)
    FakeNVML(monkeypatch, gpu)

    class Beside(CardSampler):
        def __init__(self, device: str):
            super().__init__("cuda", 3600.0)

        def __exit__(self, *error: object) -> None:
            gpu.energy_mj += 60_000
            super().__exit__(*error)

    monkeypatch.setattr(engines, "CardSampler", Beside)
    return gpu


WARNING = "the card was throttled: thermal slowdown by the hardware 100% of the time"


def test_a_throttled_run_says_so_and_what_a_song_took(run, tmp_path, hot_card):
    path = tmp_path / "hot.json"
    code, out, err = run(*SHORT, "--no-warmup", "--device", "cpu", "--benchmark-output", str(path))
    [item] = output.load(path)[1]
    assert code == 0 and f"warning: {WARNING}" in err and item.warnings[-1] == WARNING
    of = item.samples[0].telemetry
    assert (of.joules_per_song, of.joules_per_audio_s, of.power_limit_w) == (60.0, 6.0, 699.5)
    assert "\nenergy 60 J a song, 6 J a second of audio; " in out and "the limit is 699.5 W\n" in out
    held_back = "power cap 100%, thermal slowdown by the hardware 100%"
    assert f"\nclock 1980 MHz to 1980 MHz; throttling: {held_back}\n" in out


def test_a_throttled_row_says_so(run, tmp_path, monkeypatch):
    path, hot = tmp_path / "hot.csv", Telemetry(seconds=2.0, throttling={"hardware slowdown": 0.5})
    samples = (Sample(wall_s=2.0, telemetry=hot),)
    monkeypatch.setattr(measure.Bench, "music", lambda *_: changed(DONE, samples=samples))
    _, out, _ = run(*ONE_CELL, "--benchmark-output", str(path))
    assert out.count("OK THROTTLED") == 2
    row, *_ = csv.DictReader(path.read_text().splitlines())
    figures = (row["joules_per_song"], row["mean_w"], row["throttling"])
    assert figures == ("", "", "hardware slowdown 50%")


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
        (("--trace", "taken/trace.json"), "--trace: 'taken' cannot be made"),
        (("--trace", "a\udcff.json"), r"--trace: 'a\udcff.json' is not UTF-8; name another"),
        (
            ("--trace", "x/../a.json", "--benchmark-output", "a.json"),
            "--trace: 'x/../a.json' is the file of --benchmark-output as well",
        ),
        (("--detailed", "--benchmark-output", "taken/a.json"), "--detailed: 'taken' cannot be made"),
    ],
)
def test_a_bad_place_for_what_an_instrument_finds_is_refused_before_anything_runs(
    run, tmp_path, monkeypatch, mode, flags, words
):
    monkeypatch.setattr(modes, "_bench", lambda *_: pytest.fail("loaded"))
    (tmp_path / "taken").touch()
    code, _, err = run("--mode", mode, *flags)
    assert code == 2 and err.startswith(f"profile_inference: {words}") and err.count("\n") == 1


@pytest.mark.parametrize("mode", ["understand", "create_sample", "format_sample"])
def test_words_need_the_language_model_alone(run, tmp_path, mode, monkeypatch):
    loaded = []
    text = measure.Bench.text

    def watched(self, *arguments):
        loaded.append(set(self.engine.models.loaded))
        return text(self, *arguments)

    monkeypatch.setattr(measure.Bench, "text", watched)
    path = tmp_path / "words.json"
    code, out, _ = run("--mode", mode, "--no-warmup", "--benchmark-output", str(path))
    assert code == 0 and f"{mode.upper()} RESULTS" in out and "Success                 True" in out
    assert loaded == [{"lm"}]
    [item] = output.load(path)[1]
    assert item.status == "ok" and item.text and item.text["caption"] and item.counts["lm_decode_tokens"]


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


@pytest.mark.parametrize("mode", ["benchmark", "profile", "create_sample"])
@pytest.mark.parametrize("held", ["notes", '{"schema": "acestep-profile/1", "run": '])
def test_a_file_that_is_no_record_is_refused_before_anything_runs(run, tmp_path, monkeypatch, held, mode):
    monkeypatch.setattr(modes, "_bench", lambda *_: pytest.fail("loaded"))
    path = tmp_path / "matrix.json"
    path.write_text(held)
    code, _, err = run("--mode", mode, "--benchmark-output", str(path))
    assert code == 2 and "matrix.json' is there and would be lost" in err and err.count("\n") == 1
    assert [p.read_text() for p in tmp_path.iterdir()] == [held]


@pytest.mark.parametrize("mode", ["profile", "understand"])
def test_a_record_of_another_mode_is_refused_before_anything_runs(run, tmp_path, monkeypatch, mode):
    path = tmp_path / "matrix.json"
    monkeypatch.setattr(measure.Bench, "music", lambda *_: DONE)
    assert run(*ONE_CELL, "--benchmark-output", str(path))[0] == 0
    before = path.read_text()
    monkeypatch.setattr(modes, "_bench", lambda *_: pytest.fail("loaded"))
    code, _, err = run("--mode", mode, "--benchmark-output", str(path))
    assert code == 2 and f"is a record of mode 'benchmark', and this is {mode}; name another" in err
    assert path.read_text() == before


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


def test_an_earlier_profile_is_kept_under_another_name(run, tmp_path, monkeypatch):
    monkeypatch.setattr(show, "times", lambda *_: None)
    path = tmp_path / "profile.json"
    assert run(*SHORT, "--benchmark-output", str(path))[0] == 0
    before = path.read_text()
    code, _, err = run(*SHORT, "--benchmark-output", str(path))
    assert code == 0 and "profile-kept.json', and begun anew" in err
    assert (tmp_path / "profile-kept.json").read_text() == before


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
        [told] = [err for process, _, err in both if process.returncode]
        assert sorted(codes) == [0, 2] and told.count("\n") == 1
        assert f"--benchmark-output: another run is writing {str(path)!r}; wait for it" in told


def test_a_budget_ends_the_matrix_in_time(run, monkeypatch):
    clock = iter(range(0, 10_000, 40))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    code, out, _ = run(*ONE_CELL, "--budget", "1m")
    assert code == 0
    first, second = (line for line in out.splitlines() if line.startswith("10 "))
    assert " OK" in first and "no time left" in second
    told = " ".join(out.splitlines()[-2:])
    assert "1 of 2 rows measured on " in told and "; 1 left out." in told
    assert "The next row, 10 s, batch 1, thinking, 2 steps, needs about " in told


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


def test_nothing_is_drawn_while_something_is_timed():
    """A bench tells of a run before its clock starts, and in no run of any kind."""
    timed, told = [], []

    class Engine:
        def run_lm(self, plan):
            return work()

    def work():
        timed.append(len(told))
        return Result()

    class Result:
        wall_s, stages_s = 1.0, {"lm_decode": 1.0}

    bench = measure.Bench(Engine(), True, 2, lambda what: told.append((what, len(timed))))  # type: ignore[arg-type]
    bench.engine.budget = type("Budget", (), {"reset_peak": lambda self: None})()
    bench._run(work)
    plan = resolver.resolve(*SUBJECT.request(10), SUBJECT.setup(source="synthetic-tiny", device="cpu"))
    bench.unguided_lm_s(plan)
    assert [what for what, _ in told] == [
        "warm-up", "run 1 of 2", "run 2 of 2",
        *(f"planning without guidance, {number} of 3" for number in (1, 2, 3)),
    ]  # fmt: skip
    assert timed == [1, 2, 3, 4, 5, 6] and [before for _, before in told] == [0, 1, 2, 3, 4, 5]


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


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ((), "short"),
        (("--seed", "101", "--duration", "10", "--no-thinking"), "short"),  # as the file says
        (("--thinking", "--duration", "20"), "short duration=20 thinking=on"),
        (("--batch-size", "2"), "short batch_size=2"),
        (("--seed", "7"), "short seed=7"),
        (("--preset", "upstream"), "short preset=upstream"),
        (("--quantization", "none", "--no-limits"), "short"),  # which are no part of the input
    ],
)
def test_an_input_is_its_file_and_what_is_not_the_files(flags, name):
    """One name and one hash are one request, whatever flags it was asked for by."""
    options = parse(["--example", "short", "--source", "synthetic-tiny", "--device", "cpu", *flags], {})
    plan = resolver.resolve(options.params, options.config, prepare.setup(options))
    row = matrix.Row(options.params, options.config, plan, options.engine)
    source = options.request_file.input_of(row.requested)  # type: ignore[union-attr]
    assert performance_plan.named(source) == name
    assert source.sha256 == hashlib.sha256((INPUTS / "short.json").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--json-plan", "a.json", "--trace", "a.json"), "--trace: 'a.json' is the file of --json-plan as"),
        (("--json-plan", "absent/a.json"), "--json-plan: 'absent/a.json' cannot be written"),
        (("--json-plan", "notes"), "--json-plan: 'notes' is there and would be lost"),
    ],
)
def test_a_bad_place_for_a_plan_is_refused_before_anything_runs(run, tmp_path, monkeypatch, flags, words):
    monkeypatch.setattr(modes, "_bench", lambda *_: pytest.fail("loaded"))
    (tmp_path / "notes").write_text("mine")
    code, _, err = run(*flags)
    assert code == 2 and err.startswith(f"profile_inference: {words}") and err.count("\n") == 1
    assert (tmp_path / "notes").read_text() == "mine"


def test_two_rows_that_clamp_to_one_run_are_measured_once(run, monkeypatch):
    monkeypatch.setenv("MAX_CUDA_VRAM", "4")  # no language model, one item, 180 s
    monkeypatch.setattr(matrix, "DURATIONS_S", (240.0, 300.0))
    measured = []
    monkeypatch.setattr(measure.Bench, "music", lambda self, mode, row: measured.append(row) or DONE)
    code, out, _ = run("--mode", "benchmark", "--inference-steps", "2")
    rows = [line for line in out.splitlines() if re.match(r"(240|300) ", line)]
    assert code == 0 and len(measured) == 1 and len(rows) == 6
    assert all("CLAMPED" in row and "True" not in row for row in rows)


@pytest.mark.parametrize(("lms", "told"), [((), True), (LMS[:1], False)])
def test_rows_without_a_language_model_to_think_with_are_told(run, tmp_path, lms, told):
    root = checkpoint(tmp_path / "root", *lms)
    code, out, error = run("--mode", "benchmark", "--dry-run", "--source", str(root), "--device", "cpu")
    rows = [line.split()[2] for line in out.splitlines() if line.endswith("dry run")]
    assert code == 0 and ("True" in rows) is not told and "False" in rows
    assert ("rows that think are left out: " in error) is told


DONE = Item(key="x", mode="benchmark", requested={}, status="ok")


@pytest.mark.parametrize(("line", "code"), GUIDES.items())
def test_every_line_of_the_guides_runs_or_says_why_not(run, line, code, monkeypatch):
    """Benchmarks on one cell of their matrix; of tier tests the list of cases, which tiersim's tests run."""
    for name, value in (("DURATIONS_S", (10.0,)), ("BATCHES", (1,)), ("STEPS", (2,)), ("THINKING", (False,))):
        monkeypatch.setattr(matrix, name, value)
    found, out, error = run(*shlex.split(line))
    assert found == code, error
    assert out.strip() or code
    if code:
        assert error.startswith("profile_inference: ") and error.count("\n") == 1


def test_a_dry_run_loads_nothing(tmp_path):
    code = (
        "import sys\nfrom acestep.profiler.command import main\n"
        "for mode in ('profile', 'benchmark', 'understand'):\n"
        "    assert main(['--mode', mode, '--dry-run', '--source', 'synthetic-tiny'], tier_test=None) == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    wide = os.environ | {"COLUMNS": "122"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=wide
    )
    assert done.returncode == 0, done.stderr
    assert "240        4       True    16" in done.stdout
