"""What the docs say can be done is done, by the commands they give."""

import shlex

import pytest
from pages import lines, text
from places import ROOT

from subjects.rvc.__main__ import main

START = "python -m subjects.rvc "
COMMANDS = [line.removeprefix(START) for line in lines(text("docs/rvc.md")) if line.startswith(START)]
SMALL = ["--source", "synthetic-tiny", "--duration", "0.1"]  # the last of a flag counts
QUICK = {"components": ["--runs", "1", "--no-warmup", "--pytorch-only"]}
TELLS = {
    "components": "generator, weight norm left in over folded",
    "convert": ".wav",
    "costs": "verdict fits H200",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    name = command.partition(" ")[0]
    assert main([*shlex.split(command), *SMALL, *QUICK.get(name, [])]) == 0
    assert TELLS[name] in capsys.readouterr().out


def test_there_is_one_of_each():
    assert [command.partition(" ")[0] for command in COMMANDS] == [*TELLS]
