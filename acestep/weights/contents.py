"""What a checkpoint root holds, held against itself: each component whole, each field in range, all agreed.

A component is whole when its configuration is one of its kind and each of its files is there to its end. No
torch import here: what cannot be right is known before anything is paid for, in a dry run as well. Whether
names and shapes of the weights are the model's is known once that is built (`acestep.weights.loading`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

from acestep.models.configs import DiTConfig, VAEConfig
from acestep.text import tokenizer_file
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import LM_VOCAB, TEXT_VOCAB
from acestep.weights import silence
from acestep.weights.layout import TEXT_ENCODER, VAE, folders, weights_stem
from harness.checkpoint_files import read_json
from harness.checks import listed
from harness.errors import CheckpointError
from harness.nn.config import Qwen3Config, parse_config
from harness.tensor_files import stored_tensors

# What lies beside the weights of a kind of component, and what reads it.
BESIDE_WEIGHTS = {
    DiTConfig: ("silence_latent.pt", silence.read_archive),
    Qwen3Config: ("tokenizer.json", tokenizer_file.read),
}

ComponentConfig = DiTConfig | VAEConfig | Qwen3Config


def check_root(root: Path, dit: str, lm: str | None) -> None:
    """Check the components of a generation, each by itself and all of them together.

    `dit`, `lm`: their folders. Raises CheckpointError naming the file, what is wrong and what is allowed.
    """
    kinds = {dit: DiTConfig, VAE: VAEConfig, TEXT_ENCODER: Qwen3Config} | ({lm: Qwen3Config} if lm else {})
    check_together(str(root), {folder: check_component(root, folder, kind) for folder, kind in kinds.items()})


def check_component(root: Path, folder: str, kind: type[ComponentConfig]) -> ComponentConfig:
    """The configuration of a component. Raises CheckpointError for what it lacks, and for what is wrong."""
    path, stem = component(root, folder), weights_stem(folder)
    config = parse_config(read_json(path / "config.json"), kind, str(path / "config.json"))
    stored = sum(prod(tensor.shape) for tensor in stored_tensors(path, stem).values())
    if config.weights > stored:
        raise CheckpointError(
            f"{path / 'config.json'}: describes at least {config.weights:,} weights, "
            f"{stem}.safetensors holds {stored:,}; is this another architecture?"
        )
    if kind in BESIDE_WEIGHTS:
        name, read = BESIDE_WEIGHTS[kind]
        read(path / name)
    return config


def component(root: Path, folder: str) -> Path:
    """The folder of a component. Raises CheckpointError where there is none, naming what is there."""
    path = root / folder
    if not path.is_dir():
        there = listed(folders(root) if root.is_dir() else ()) or "nothing"
        raise CheckpointError(f"{path}: no such folder; {root} holds {there}")
    return path


def lacks(root: Path, lm: str) -> str | None:
    """What the language model `lm` lacks, as its error says, or None for one that is whole."""
    try:
        check_component(root, lm, Qwen3Config)
    except CheckpointError as error:
        return str(error)
    return None


def check_together(source: str, configs: Mapping[str, ComponentConfig]) -> None:
    """Hold the configurations of components, by folder, against one another. Raises CheckpointError."""
    text_encoder = configs.get(TEXT_ENCODER)
    for folder, config in configs.items():
        contradiction = None
        if isinstance(config, DiTConfig):
            contradiction = _of_dit(config, text_encoder)
        elif isinstance(config, Qwen3Config):
            least = TEXT_VOCAB if folder == TEXT_ENCODER else LM_VOCAB
            if config.vocab_size < least:
                contradiction = f"vocab_size: {config.vocab_size} is not allowed; its tokenizer has {least}"
        if contradiction:
            raise CheckpointError(f"{source}/{folder}/config.json: {contradiction}")


def _of_dit(dit: DiTConfig, text_encoder: object) -> str | None:
    """What does not fit a DiT to the networks around it, or None."""
    width, codes, text = dit.encoder.hidden_size, prod(dit.fsq_input_levels), dit.text_hidden_dim
    if dit.fsq_dim != width:
        return f"fsq_dim: {dit.fsq_dim} is not allowed; use {width}, the width of the encoder"
    if codes != CODES:
        return (
            f"fsq_input_levels: their product, {codes}, is not allowed; it must be {CODES}, as many as codes"
        )
    if isinstance(text_encoder, Qwen3Config) and text != text_encoder.hidden_size:
        width = text_encoder.hidden_size
        return f"text_hidden_dim: {text} is not allowed; use {width}, the hidden_size of {TEXT_ENCODER}"
    return None
