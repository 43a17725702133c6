"""Checkpoint roots that are whole to the eye: headers of the right tensors, and nothing but zeros behind."""

import io
import json
from functools import cache
from math import prod
from pathlib import Path

import torch

from acestep.weights.layout import DEFAULT_DIT, LMS, TEXT_ENCODER, VAE, weights_stem
from acestep.weights.silence import STORED_SHAPE
from acestep.weights.synthetic import Synthetic
from acestep.weights.synthetic_configs import CONFIGS
from acestep.weights.synthetic_tokenizer import tokenizer_files

NEEDED = (DEFAULT_DIT, VAE, TEXT_ENCODER)  # by every request
OF_LM = '{"model": {"type": "BPE", "vocab": {}}}'  # a tokenizer, to who only looks


def checkpoint(root: Path, *lms: str) -> Path:
    """A root with the components of every request and the language models `lms`."""
    for folder in (*NEEDED, *lms):
        component(root, folder)
    return root


def component(root: Path, folder: str) -> Path:
    """A component of a root, at the sizes of the tiny one."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIGS["synthetic-tiny"][folder]))
    header, end = {}, 0
    for name, shape in Synthetic("synthetic-tiny").weights(folder).shapes().items():
        start, end = end, end + 4 * prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with (path / f"{weights_stem(folder)}.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)  # which takes no room
    if folder == TEXT_ENCODER:
        (path / "tokenizer.json").write_bytes(tokenizer())
    elif folder in LMS:
        (path / "tokenizer.json").write_text(OF_LM)
    elif folder != VAE:
        (path / "silence_latent.pt").write_bytes(silence())
    return path


@cache
def silence() -> bytes:
    """Zeros, of which one is stored."""
    file = io.BytesIO()
    torch.save(torch.zeros(1).expand(STORED_SHAPE), file)
    return file.getvalue()


@cache
def tokenizer() -> bytes:
    """The text encoder's, which a long text is measured with."""
    return tokenizer_files("text")["tokenizer.json"]


def cut(file: Path) -> None:
    """End a file in the middle, as a download that stopped."""
    with file.open("r+b") as part:
        part.truncate(file.stat().st_size // 2)
