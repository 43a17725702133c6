"""Checkpoint roots that are whole to the eye: every file of a component, and next to nothing in it."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER, VAE, weights_stem
from acestep.weights.synthetic_configs import CONFIGS

NEEDED = (DEFAULT_DIT, VAE, TEXT_ENCODER)  # by every request


def checkpoint(root: Path, *lms: str) -> Path:
    """A root with the components of every request and the language models `lms`."""
    for folder in (*NEEDED, *lms):
        component(root, folder)
    return root


def component(root: Path, folder: str) -> Path:
    """A component of a root."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIGS["synthetic-tiny"][folder]))
    save_file({"weight": np.zeros((16, 16), np.float32)}, path / f"{weights_stem(folder)}.safetensors")
    if folder in (TEXT_ENCODER, *LMS):
        (path / "tokenizer.json").write_text("{}")
    elif folder != VAE:
        (path / "silence_latent.pt").write_bytes(b"frames")
    return path


def cut(file: Path) -> None:
    """End a file in the middle, as a download that stopped."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
