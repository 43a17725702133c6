"""Checkpoint folders as published (`acestep.weights.layout`), as a source of models. Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from acestep.text.tokenizer import Tokenizer
from acestep.weights.contents import component
from acestep.weights.layout import TEXT_ENCODER, weights_stem
from acestep.weights.silence import read_silence
from harness.checkpoint import SafetensorsFile, Weights
from harness.checkpoint_files import read_json


class Source(Protocol):
    """Where models come from: a checkpoint folder, or weights made up at the same names and shapes."""

    name: str

    def config(self, folder: str) -> dict[str, Any]: ...

    def weights(self, folder: str) -> Weights: ...

    def tokenizer(self, folder: str) -> Tokenizer: ...

    def silence_latent(self, dit: str) -> Tensor: ...


class Folder:
    """A checkpoint root on disk."""

    def __init__(self, root: Path):
        self.root = root
        self.name = str(root)

    def config(self, folder: str) -> dict[str, Any]:
        return read_json(component(self.root, folder) / "config.json")

    def weights(self, folder: str) -> Weights:
        return SafetensorsFile(component(self.root, folder), weights_stem(folder))

    def tokenizer(self, folder: str) -> Tokenizer:
        return Tokenizer.from_folder(component(self.root, folder), audio_codes=folder != TEXT_ENCODER)

    def silence_latent(self, dit: str) -> Tensor:
        """`[1, 15000, 64]` fp32: what the VAE encodes silence to, as the folder `dit` keeps it."""
        return read_silence(component(self.root, dit) / "silence_latent.pt")
