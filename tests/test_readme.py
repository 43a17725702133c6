"""What the README says can be done is done, by the commands it gives."""

import re
import shlex
from pathlib import Path

import pytest
from places import ROOT

from acestep.__main__ import main
from acestep.request import GUIDANCE_MODES, INFER_METHODS
from acestep.tasks import TASKS, TEXT_MODES

README = (ROOT / "README.md").read_text(encoding="utf-8")
FEW = ["--set", "max_caption_tokens=8", "--set", "max_lyrics_tokens=8"]  # made-up weights find no end
COMMANDS = [row for row in re.findall(r"^\|[^|]+\| `(.+)` \|$", README, re.MULTILINE) if "acestep" in row]


def test_every_task_text_mode_solver_and_guidance_has_a_row():
    rows = [row for row in README.splitlines() if "python -m acestep" in row]
    examples = {"text2music": "example_01.json"} | {
        task: f"tasks/{task}.json" for task in TASKS if task != "text2music"
    }
    for example in examples.values():
        assert any(example in row for row in rows), example
    for word in ("understand", "create", "format", "codes", *INFER_METHODS[1:], *GUIDANCE_MODES[1:]):
        assert any(word in row for row in rows), word


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_runs(command: str, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    for part in command.split(" && "):
        words = shlex.split(part)
        while "=" in words[0]:
            monkeypatch.setenv(*words.pop(0).split("="))
        assert words[:3] == ["python", "-m", "acestep"]
        device = [] if words[3] == "write-checkpoint" else ["--device", "cpu"]
        short = FEW if words[3] in TEXT_MODES else []
        assert main(words[3:] + device + short) == 0
    said = capsys.readouterr()
    assert said.out.strip()
    if words[3] == "generate" and "--dry-run" not in words:
        saved = re.findall(r"^saved +(.+)$", said.out, re.MULTILINE)
        assert saved and all(Path(path).stat().st_size > 100_000 for path in saved)
