"""What README and docs say can be done is done, by the commands they give."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile
from commands import parts, problem
from loaded_once import loaded_once
from pages import PAGES, lines, section, spans, text
from places import ROOT

from acestep.__main__ import main
from acestep.costs import fits
from acestep.engine import Engine
from acestep.profiler import command as profiler
from acestep.request import GUIDANCE_MODES, INFER_METHODS
from acestep.tasks import TASKS, TEXT_MODES

GENERATING = text("docs/generating.md")
INCOMPLETE = re.compile("are required: |expected .*argument")  # of a command that is only named
STEPS = ["--set", "inference_steps=2"]
FEW = ["--set", "max_caption_tokens=8", "--set", "max_lyrics_tokens=8"]  # made-up weights find no end
COMMANDS = [row for row in re.findall(r"^\|[^|]+\| `(.+)` \|$", GENERATING, re.MULTILINE) if "acestep" in row]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_that_a_page_names_is_there_and_takes_its_flags(page: Path):
    words = page.read_text(encoding="utf-8")
    assert [wrong for line in lines(words) for part in parts(line) if (wrong := problem(part))] == []
    named = [wrong for span in spans(words) for part in parts(span) if (wrong := problem(part))]
    assert [wrong for wrong in named if not INCOMPLETE.search(wrong)] == []


@pytest.mark.parametrize(
    "command",
    [
        "python -m nothing",
        "python nothing.py",
        "python -m acestep nothing",
        "python -m acestep generate --nothing",
        "python profile_inference.py --nothing",
        ".venv/bin/python -m scripts.changes --nothing",
        "uv run tiersim --nothing",
        "make nothing",
        "make gate NOTHING=1",
        "make test && make nothing",
        "asv run --nothing",
        "A=1 asv nothing",
    ],
)
def test_a_command_that_is_not_there_is_seen(command: str):
    assert any(map(problem, parts(command)))


def test_the_answer_that_the_readme_shows_is_the_commands(monkeypatch, capsys):
    """Its first line: how far a song goes, and what makes room, is not looked for here."""
    for name in ("LENGTHS_S", "BATCHES"):
        monkeypatch.setattr(fits, name, ())
    monkeypatch.setattr(fits, "_savings", lambda *_: ())
    (shown,) = re.findall("^    (yes: .*)$", text("README.md"), re.MULTILINE)
    assert main(["fits", "8", "--source", "synthetic-full"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == shown


def test_every_task_text_mode_solver_and_guidance_has_a_row():
    rows = [row for row in GENERATING.splitlines() if "python -m acestep" in row]
    examples = {"text2music": "example_01.json"} | {
        task: f"tasks/{task}.json" for task in TASKS if task != "text2music"
    }
    for example in examples.values():
        assert any(example in row for row in rows), example
    for word in ("understand", "create", "format", "codes", *INFER_METHODS[1:], *GUIDANCE_MODES[1:]):
        assert any(word in row for row in rows), word


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_runs(command: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Engine, "from_setup", loaded_once)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    for part in command.split(" && "):
        words = shlex.split(part)
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("="))
        assert words[:3] == ["python", "-m", "acestep"]
        device = [] if words[3] == "write-checkpoint" else ["--device", "cpu"]
        short = FEW if words[3] in TEXT_MODES else []
        if "--max-tokens" in part:
            short = FEW[:2]
        if words[3] == "generate" and "steps" not in part:
            short = STEPS
        assert main(words[3:] + device + short) == 0
    output = capsys.readouterr()
    assert output.out.strip()
    if words[3] == "generate" and "--dry-run" not in words:
        saved = re.findall(r"^saved +(.+)$", output.out, re.MULTILINE)
        assert saved and all(Path(path).stat().st_size > 100_000 for path in saved)


STREAMS = [line for line in lines(section("docs/generating.md", "Streaming")) if "--stream" in line]


@pytest.mark.parametrize("command", STREAMS)
def test_a_stream_of_the_page_is_a_wav_as_far_as_the_pipe(command: str, monkeypatch, capsysbinary):
    """What plays it is not here to be asked."""
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    words = shlex.split(re.split(r" [|>] ", command)[0])
    assert words[:3] == ["python", "-m", "acestep"]
    assert main([*words[3:], "--device", "cpu", "--duration", "5.2", "--steps", "1"]) == 0
    info = soundfile.info(io.BytesIO(capsysbinary.readouterr().out))
    assert (info.format, info.samplerate, info.channels, info.duration) == ("WAV", 48_000, 2, 5.2)


def test_there_are_two_of_them_and_one_is_played():
    assert [re.split(r" [|>] ", command)[1] for command in STREAMS] == [
        "ffplay -nodisp -autoexit -", "waltz.wav",
    ]  # fmt: skip


PLAN = lines(section("docs/performance-plan.md", "Commands"))


def words_of(start: str) -> list[str]:
    """The words of the one command of a performance plan's that has `start`."""
    [row] = [row for row in PLAN if start in row]
    return shlex.split(row)


def test_a_performance_plans_json_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    words = words_of("--json-plan")
    quick = ["--device", "cpu", "--no-warmup", "--inference-steps", "2"]
    assert words[:2] == ["python", "profile_inference.py"]
    assert profiler.main([*words[2:], *quick], tier_test=lambda _: 0) == 0
    plan = json.loads((tmp_path / words[-1]).read_bytes())
    assert [result["input"] for result in plan["results"]] == ["short inference_steps=2"]
    assert plan["results"][0]["realtime_factor"] > 0 and plan["features"]
    assert "plan     plan.json" in capsys.readouterr().out


def test_the_history_is_a_table(tmp_path):
    """Of a repository of one commit, with the result of one benchmark."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "First"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    wall = [[0.5], [["5"], ["1"], ["True"], ["8"]], "2", datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1e3]
    result = {
        "version": 2, "commit_hash": commit, "env_name": "checkout", "params": {"machine": "a-cpu"},
        "result_columns": ["result", "params", "version", "started_at"],
        "results": {"generate.TimeGenerate.track_wall": wall},
    }  # fmt: skip
    path = tmp_path / ".asv/results/a-cpu" / f"{commit[:8]}-checkout.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(result))
    printed = run(words_of("scripts.history"), tmp_path)
    [row] = re.findall(r"^\| <code>.*$", printed, re.MULTILINE)
    assert commit[:8] in row and "| 2026-01-02 | 500 ms | n/a |" in row and "| 10.0 x |" in row


def test_functions_of_the_working_tree_are_measured(tmp_path):
    run(words_of("micro.jsonl"), tmp_path, ACESTEP_BENCH_REPEATS="1")
    header, *cells = map(json.loads, (tmp_path / "micro.jsonl").read_text().splitlines())
    assert [cell["cell"] for cell in cells] == header["planned"]
    kinds = {cell["cell"].partition(" ")[0]: cell["status"] for cell in cells}
    assert kinds == dict.fromkeys(("mask", "sampling", "codes", "resample", "mel", "span"), "ok")


def run(words: list[str], folder: Path, **environment: str) -> str:
    """The standard output of a command of the docs in `folder`, where the repository's files are, too."""
    for name in ("scripts", "benchmarks", "harness"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    while "=" in words[0]:
        environment |= dict([words[0].split("=", 1)])
        words = words[1:]
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:]], capture_output=True, text=True, cwd=folder, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
