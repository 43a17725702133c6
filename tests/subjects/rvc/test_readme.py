"""What the README says can be done is done, by the commands it gives."""

import re
import shlex

import pytest
from places import ROOT

from subjects.rvc.__main__ import main

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("## RVC\n")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^    python -m subjects\.rvc (.*?)(?:  +#.*)?$", SECTION, re.MULTILINE)
SMALL = ["--source", "synthetic-tiny", "--duration", "0.1"]  # the last of a flag counts
QUICK = {"components": ["--runs", "1", "--no-warmup", "--pytorch-only"]}
TELLS = {
    "components": "generator, weight norm left in over folded",
    "convert": ".wav",
    "costs": "verdict fits H200",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    name = command.partition(" ")[0]
    assert main([*shlex.split(command), *SMALL, *QUICK.get(name, [])]) == 0
    assert TELLS[name] in capsys.readouterr().out


def test_there_is_one_of_each():
    assert [command.partition(" ")[0] for command in COMMANDS] == [*TELLS]
