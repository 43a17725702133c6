"""A flag that a command of the repository has not is refused in a line."""

import sys
from importlib import import_module

import pytest

COMMANDS = ("asv_selection", "changes", "gate main", "gpu", "history", "machine", "preview", "summary")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_that_is_not_there_is_one_line(command: str, monkeypatch, capsys):
    name = command.partition(" ")[0]
    module = import_module(f"scripts.{name}")
    if hasattr(module, "__path__"):
        module = import_module(f"scripts.{name}.__main__")
    monkeypatch.setattr(sys, "argv", [*command.split(), "--nothing"])
    assert module.main() == 2
    out, err = capsys.readouterr()
    assert out == "" and "--nothing" in err and err.count("\n") == 1
