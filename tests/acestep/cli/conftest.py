"""Commands on an engine that is loaded once for all of them, and request files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acestep.__main__ import main
from acestep.cli import commands
from acestep.engine import Engine


@pytest.fixture
def loaded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find their engine loaded."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # main sets it, and this process goes on
    monkeypatch.setattr(commands, "_engine", lambda *_: engine)


@pytest.fixture
def say(loaded: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that succeeds; its standard output."""

    def run(*arguments: str) -> str:
        assert main(arguments) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a request; the path of its file."""

    def run(fields: dict[str, Any]) -> Path:
        path = tmp_path / "request.json"
        path.write_text(json.dumps(fields))
        return path

    return run
