"""A checkpoint held against itself before anything is built: each file in range, all of them in agreement.

No torch import: a folder that cannot be right is refused before paying for one.
"""

from __future__ import annotations

import os
from math import prod
from pathlib import Path

from acestep.models.configs import DiTConfig, VAEConfig
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import LM_VOCAB, TEXT_VOCAB
from acestep.weights.layout import SYNTHETIC, TEXT_ENCODER, VAE, weights_stem
from acestep.weights.sources import component_config
from harness.checkpoint_files import opened
from harness.errors import CheckpointError
from harness.nn.config import Qwen3Config
from harness.tensor_files import is_there, stored_tensors

BESIDE = ("silence_latent.pt", "tokenizer.json")  # of weights; read whole where they are loaded

Configs = dict[str, DiTConfig | VAEConfig | Qwen3Config]


def check_source(source: str, dit: str, lm: str | None) -> None:
    """Check the components of `source` that are there; what is missing is told by who needs it.

    Raises CheckpointError naming the file, the field, its value and what is allowed.
    """
    if source in SYNTHETIC:
        return
    kinds = {dit: DiTConfig, VAE: VAEConfig, TEXT_ENCODER: Qwen3Config} | ({lm: Qwen3Config} if lm else {})
    configs: Configs = {
        folder: component_config(source, folder, kind)
        for folder, kind in kinds.items()
        if os.path.lexists(Path(source, folder, "config.json"))
    }
    check_together(source, configs)
    for folder, config in configs.items():
        path, stem = Path(source, folder), weights_stem(folder)
        for beside in filter(os.path.lexists, (path / name for name in BESIDE)):
            with opened(beside):
                pass
        if is_there(path, stem):
            stored = sum(prod(tensor.shape) for tensor in stored_tensors(path, stem).values())
            if config.weights > stored:
                raise CheckpointError(
                    f"{path / 'config.json'}: describes at least {config.weights:,} weights, "
                    f"{stem}.safetensors holds {stored:,}; is this another architecture?"
                )


def check_together(source: str, configs: Configs) -> None:
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
