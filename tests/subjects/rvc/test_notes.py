"""What there is to know of a setup is told by every command that measures, and recorded."""

import json

import pytest
import torch

from subjects.rvc import weights
from subjects.rvc.__main__ import main
from subjects.rvc.backends import mlx_process
from subjects.rvc.bench import audio, components, fresh, pitch, proof, synthesis

COMMANDS = {
    "rmvpe": pitch,
    "components": components,
    "full": synthesis,
    "audio-parity": audio,
    "e2e": fresh,
    "test": proof,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_note_is_told_once_and_recorded(command, capsys, tmp_path, monkeypatch):
    """Of the environment, and of the voice that MLX has where it runs."""
    monkeypatch.setenv("MAX_CUDA_VRAM", "8")
    monkeypatch.setattr(COMMANDS[command], "run", lambda sides, report, *_: report.add(None) or 0)
    monkeypatch.setattr(mlx_process, "absent", lambda: None)
    voice = weights.write(weights.Synthetic("synthetic-tiny", "40k"), tmp_path / "voices") / "40k.pth"
    torch.save(torch.load(voice) | {"sr": "48k"}, voice)
    mlx = () if command == "test" else ("--mlx-model", str(voice))
    argv = (command, "--source", "synthetic-tiny", "--device", "cpu", "--json", str(tmp_path / "a.json"))
    assert main([*argv, *mlx]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    warnings = json.loads((tmp_path / "a.json").read_text())["warnings"]
    assert [line.partition("warning: ")[2] for line in told] == warnings
    for note, there in (("MAX_CUDA_VRAM: 8 GB holds a CUDA card alone", True), ("voice: sr of ", bool(mlx))):
        assert sum(line.startswith(note) for line in warnings) == there
