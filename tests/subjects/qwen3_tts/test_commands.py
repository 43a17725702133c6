"""What the docs say can be done is done, by the commands they give."""

import shlex

import pytest
from pages import lines, text

from subjects.qwen3_tts.__main__ import main

START = "python -m subjects.qwen3_tts "
COMMANDS = [line.removeprefix(START) for line in lines(text("docs/qwen3-tts.md")) if line.startswith(START)]
SMALL = ["--source", "synthetic-tiny", "--duration", "0.08"]  # the last of a flag counts


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command), *SMALL]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    said = {"bench": "first chunk after", "costs": "verdict fits H200", "generate": "x real time"}
    assert said[command.partition(" ")[0]] in out


def test_there_is_one_of_each():
    assert [command.partition(" ")[0] for command in COMMANDS] == ["bench", "costs", "generate"]
