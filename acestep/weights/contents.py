"""What a checkpoint root holds: which components are there, and whether each is whole. No torch import here.

A component is whole when its configuration is one of its kind and each of its files is there to its end. So a
download that stopped is known before anything is paid for, and a dry run refuses what a run would.
"""

from __future__ import annotations

from pathlib import Path

from acestep.models.configs import DiTConfig, VAEConfig
from acestep.weights.layout import TEXT_ENCODER, VAE, weights_stem
from harness.errors import CheckpointError
from harness.nn.config import Config, Qwen3Config, parse_config, read_json
from harness.weight_files import opened, weight_files

BESIDE_WEIGHTS = {DiTConfig: "silence_latent.pt", Qwen3Config: "tokenizer.json"}  # by kind of configuration


def check_root(root: Path, dit: str) -> None:
    """Raise CheckpointError unless the components of every request are whole. `dit`: the DiT's folder."""
    for folder, kind in ((dit, DiTConfig), (VAE, VAEConfig), (TEXT_ENCODER, Qwen3Config)):
        check_component(root, folder, kind)


def check_component(root: Path, folder: str, kind: type[Config]) -> None:
    """Raise CheckpointError for what the component lacks: its folder, a file, the end of one."""
    path = component(root, folder)
    config = path / "config.json"
    parse_config(read_json(config), kind, str(config))
    for file in weight_files(path, weights_stem(folder)):
        with opened(file):
            pass
    if (beside := BESIDE_WEIGHTS.get(kind)) and not (path / beside).is_file():
        raise CheckpointError(f"{path / beside}: no such file; is the download complete?")


def component(root: Path, folder: str) -> Path:
    """The folder of a component. Raises CheckpointError where there is none, naming what is there."""
    path = root / folder
    if not path.is_dir():
        folders = root.iterdir() if root.is_dir() else ()
        there = ", ".join(sorted(p.name for p in folders if p.is_dir())) or "nothing"
        raise CheckpointError(f"{path}: no such folder; {root} holds {there}")
    return path


def lacks(root: Path, lm: str) -> str | None:
    """What the language model `lm` lacks, as its error says, or None for one that is whole."""
    try:
        check_component(root, lm, Qwen3Config)
    except CheckpointError as error:
        return str(error)
    return None
