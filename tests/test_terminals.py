"""Every entry point on terminals that have few characters, and on text that would take one over.

What is measured is kept, whatever the terminal can show of it.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from acestep import __main__ as acestep
from acestep.costs import __main__ as costs
from acestep.profiler import command as profiler
from harness.records import writer as output
from tiersim import __main__ as tiersim

TERMINALS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
HOSTILE = os.fsdecode("夜\u202e\x1b[2J".encode() + b"\xff")  # a folder's name; the last byte is no text
TINY = "--source synthetic-tiny"
COMMANDS = {
    "acestep": f"-m acestep generate {TINY} --dry-run --out {{folder}}",
    "acestep, refused": "-m acestep generate --source {folder}",
    "acestep.costs": "-m acestep.costs --list-cards",
    "qwen3_tts": "-m subjects.qwen3_tts costs --list-cards",
    "qwen3_tts, refused": "-m subjects.qwen3_tts bench --source {folder}",
    "rvc": "-m subjects.rvc costs --list-cards",
    "rvc, refused": "-m subjects.rvc convert {folder}",
    "tiersim": f"-m tiersim {TINY} --dry-run --tiers 8 --boundary",
    "tiersim, refused": "-m tiersim --dry-run --source {folder}",
    "profile": f"{ROOT}/profile_inference.py {TINY} --dry-run",
    "benchmark": f"{ROOT}/profile_inference.py {TINY} --mode benchmark --dry-run",
    "profile, refused": f"{ROOT}/profile_inference.py --source {{folder}}",
    "scripts.summary": "-m scripts.summary",
    "scripts.gate": "-m scripts.gate {folder} HEAD",
    "scripts.gpu": "-m scripts.gpu --device cpu --source {folder}",
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_every_entry_point_ends_well_on_any_terminal(tmp_path: Path, terminal: str):
    folder = tmp_path / HOSTILE
    folder.mkdir()
    environ = os.environ | TERMINALS[terminal] | {"PYTHONPATH": str(ROOT)}
    started = {
        name: subprocess.Popen(
            [sys.executable, *(str(folder) if word == "{folder}" else word for word in line.split())],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ, cwd=folder,
        )
        for name, line in COMMANDS.items()
    }  # fmt: skip
    for name, process in started.items():
        out, err = process.communicate()
        refused = "refused" in name or name.startswith("scripts")
        assert process.returncode in ((1, 2, 3) if refused else (0,)), (name, err)
        assert b"Traceback" not in err and b"\x1b" not in out + err, name
        assert err.count(b"\n") == 1 if refused else out, (name, err)
        assert terminal == "cp1252" or (out + err).isascii()
        assert b"\\u2500" not in out and b"\\u2014" not in out, name  # rules and dashes have likenesses


def test_what_is_measured_is_kept_whatever_the_terminal_can_show(tmp_path, monkeypatch):
    """The profiler's whole report, and tiersim's with its files, in a folder whose name is no text."""
    folder = tmp_path / HOSTILE
    folder.mkdir()
    monkeypatch.chdir(folder)
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    short = f"{TINY} --duration 10 --inference-steps 1 --thinking --llm-debug --no-warmup"
    profile, tables = folder / "p.json", folder / "t.md"
    assert profiler.main([*short.split(), "--benchmark-output", str(profile)], tier_test=lambda _: 0) == 0
    assert len(output.load(profile)[1]) == 1
    line = f"{TINY} --predict --tiers 8 --duration 10 --steps 1 --variants no-quant"
    assert tiersim.main([*line.split(), "--out", "kept", "--benchmark-output", str(tables)]) == 0
    shown = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"results  kept/report.html" in shown and b"\\udcff" in shown and b"\x1b" not in shown
    assert len(output.load(folder / "kept" / "results.json")[1]) >= 1
    for path in (tables, folder / "kept" / "summary.md", folder / "kept" / "report.html"):
        text = path.read_text("utf-8")
        assert "\u202e" not in text and "\x1b" not in text


COMMANDS_OF_ACESTEP = ("", "generate", "understand", "create", "format", "codes", "write-checkpoint")
HELP = {
    **{f"acestep {name}": (acestep.main, name) for name in COMMANDS_OF_ACESTEP},
    "acestep.costs": (costs.main, ""),
    "tiersim": (tiersim.main, ""),
}


@pytest.mark.parametrize("name", HELP)
def test_help_fits_a_terminal_of_80_columns(name: str, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    main, words = HELP[name]
    with pytest.raises(SystemExit):
        main([*words.split(), "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines and not [line for line in lines if len(line) > 80]
