"""Checkpoint folders as published, and how a model takes its weights from one.

    <root>/acestep-v15-*/         config.json, model.safetensors (or an index and shards), silence_latent.pt
    <root>/vae/                   config.json, diffusion_pytorch_model.safetensors
    <root>/Qwen3-Embedding-0.6B/  config.json, model.safetensors, tokenizer.json
    <root>/acestep-5Hz-lm-*/      likewise

A model is built on the meta device, its names and shapes are held against the file, and then each
tensor is read, cast and moved by itself. So the host never holds a second copy of a component, and of the
XL family's 20 GB in fp32 never more than one tensor.
"""

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
