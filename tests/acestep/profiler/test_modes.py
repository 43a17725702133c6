"""The modes on tiny weights: what is run, what is printed, what is kept."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from guides import GUIDES
from profiler_runs import DONE, ONE_CELL, SHORT

from acestep.profiler import matrix, measure, modes, show
from acestep.weights.layout import LMS
from harness.errors import BenchError
from harness.records import writer as output


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


def test_without_warm_up_the_cold_figures_are_the_sample(run, tmp_path):
    path = tmp_path / "profile.json"
    code, out, _ = run(*SHORT, "--no-warmup", "--benchmark-output", str(path))
    assert code == 0 and "no warm-up" in out and "LLM Planning" not in out
    [item] = output.load(path)[1]
    assert len(item.samples) == 1 and item.cold and item.cold.first_call_s is None


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


@pytest.mark.parametrize("full_for", [1, 99])
def test_a_full_disk_loses_nothing_that_was_measured(run, tmp_path, monkeypatch, full_for):
    """What is shown is shown; what the disk has no room for is written once it has, or the run has failed."""
    path, failures, rewrite = tmp_path / "matrix.json", [], output.rewrite

    def full(place, data):
        if len(failures) < full_for:
            failures.append(BenchError("the disk is full"))
            raise failures[-1]
        rewrite(place, data)

    monkeypatch.setattr(output, "rewrite", full)
    monkeypatch.setattr(measure.Bench, "music", lambda *_: DONE)
    code, out, err = run(*ONE_CELL, "--benchmark-output", str(path))
    assert len(re.findall("^10 .* OK", out, re.M)) == 2 and "warning: the disk is full; " in err
    if full_for == 1:
        assert code == 0 and len(output.load(path)[1]) == 2
    else:
        assert code == 1 and err.endswith("profile_inference: the disk is full\n") and not path.exists()


def test_an_earlier_profile_is_kept_under_another_name(run, tmp_path, monkeypatch):
    monkeypatch.setattr(show, "times", lambda *_: None)
    path = tmp_path / "profile.json"
    assert run(*SHORT, "--benchmark-output", str(path))[0] == 0
    before = path.read_text()
    code, _, err = run(*SHORT, "--benchmark-output", str(path))
    assert code == 0 and "profile-kept.json', and begun anew" in err
    assert (tmp_path / "profile-kept.json").read_text() == before


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


MODES_WITH_LM = {"profile": ("--thinking",), "benchmark": (), "scaling": (), "understand": ()}


@pytest.mark.parametrize("mode", MODES_WITH_LM)
def test_what_a_tier_changes_is_told_in_every_mode(run, monkeypatch, mode):
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    line = ("--mode", mode, *MODES_WITH_LM[mode], "--device", "cpu", "--dry-run")
    code, _, err = run(*line, "--lm", LMS[2])
    change = rf"warning: lm: {LMS[2]} is over the limit of 8 GB .*; using {LMS[0]}\n"
    assert code == 0 and len(re.findall(change, err)) == 1
    assert not re.search(change, run(*line)[2])


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
