"""What the README says can be done is done, by the commands it gives."""

import re
import shlex

import pytest
from places import ROOT

from subjects.qwen3_tts.__main__ import main

SECTION = (
    (ROOT / "README.md").read_text(encoding="utf-8").partition("## Qwen3-TTS\n")[2].partition("\n## ")[0]
)
COMMANDS = re.findall(r"^    python -m subjects\.qwen3_tts (.*?)(?:  +#.*)?$", SECTION, re.MULTILINE)
SMALL = ["--source", "synthetic-tiny", "--duration", "0.08"]  # the last of a flag counts


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*shlex.split(command), *SMALL]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    said = {"bench": "first chunk after", "costs": "verdict fits H200", "generate": "x real time"}
    assert said[command.partition(" ")[0]] in out


def test_there_is_one_of_each():
    assert [command.partition(" ")[0] for command in COMMANDS] == ["bench", "costs", "generate"]
