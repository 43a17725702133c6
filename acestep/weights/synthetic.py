"""Synthetic checkpoints: random weights at the published names and shapes.

Time and memory of a fixed-step DiT, a VAE and a forced-length language model do not depend on the
values of the weights, so random ones measure what the real ones would.

    synthetic-full   the published widths (2B and XL DiT, 0.6B/1.7B/4B language models), bf16; XL fp32
    synthetic-tiny   the same structure, narrow; fp32; seconds on two cores. Widths are chosen so that
                     planner, diffusion and VAE each take a visible share, as they do at full size: a
                     change to any of them shows in the whole

Tensors are drawn by name (`harness.random_weights`). `write` puts a checkpoint on disk in the published
layout, one tensor in memory at a time.

    python -m acestep write-checkpoint synthetic-tiny ./checkpoints
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acestep.models.ace_step import AceStep
from acestep.models.configs import DiTConfig, VAEConfig
from acestep.models.vae import Oobleck, published_shapes
from acestep.text.tokenizer import Tokenizer
from acestep.weights.layout import DEFAULT_DIT, DITS, LMS, TEXT_ENCODER, VAE, weights_stem
from acestep.weights.silence import SILENCE_FRAMES
from acestep.weights.synthetic_configs import CONFIGS
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer, tokenizer_files
from harness.checkpoint import on_meta, parameter_shapes
from harness.checkpoint_writing import check_free, json_file, save_pickle, write_weights
from harness.errors import UsageError
from harness.files import write_whole
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.progress import Progress
from harness.random_weights import ByFanIn, RandomWeights
from harness.tensor_files import Shape

XL_SHARDS = 4


class Law(ByFanIn):
    """Mean and standard deviation of a tensor, by the part it plays."""

    def __call__(self, name: str, shape: Shape) -> tuple[float, float]:
        leaf = name.rpartition(".")[2]
        if leaf == "weight_g":
            return self._gain(name), 0.0
        if leaf in ("alpha", "beta"):
            return 0.0, 0.1
        if name == "embed_tokens.weight":
            return 0.0, 2 * shape[1] ** -0.5
        return super().__call__(name, shape)

    def _gain(self, name: str) -> float:
        """Weight-norm length that keeps the variance of a convolution's output near its input's."""
        if name == "decoder.conv2.weight_g":
            return 0.1  # audible, and clear of clipping
        if "res_unit" in name and ".conv2." in name:
            return 0.3
        if ".conv_t1." in name:
            cin, cout, kernel = self.shapes[name.replace("weight_g", "weight_v")]
            return math.sqrt(cout * kernel / 2 / cin)
        return 1.0


class Synthetic:
    """A source of made-up weights: "synthetic-tiny" or "synthetic-full"."""

    def __init__(self, name: str, seed: int = 0):
        self.name = name
        self.seed = seed

    def config(self, folder: str) -> dict[str, Any]:
        configs = CONFIGS[self.name]
        if folder not in configs:
            raise UsageError(f"{self.name} has no {folder}; it has {', '.join(configs)}")
        return configs[folder]

    def weights(self, folder: str) -> RandomWeights:
        dtype = getattr(torch, self.config(folder)["torch_dtype"])
        shapes = _shapes(self.name, folder)
        return RandomWeights(f"{self.name}/{folder}", shapes, dtype, self.seed, Law(shapes))

    def elements(self, folder: str) -> int:
        """How many weights a component has."""
        return sum(map(math.prod, _shapes(self.name, folder).values()))

    def tokenizer(self, folder: str) -> Tokenizer:
        return synthetic_tokenizer("text" if folder == TEXT_ENCODER else "lm")

    def silence_latent(self, dit: str) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(1, SILENCE_FRAMES, 64, generator=generator) * 0.5


@cache
def _shapes(name: str, folder: str) -> dict[str, Shape]:
    config, where = CONFIGS[name][folder], f"{name}/{folder}"
    if folder in DITS:
        return parameter_shapes(on_meta(lambda: AceStep(parse_config(config, DiTConfig, where))))
    if folder == VAE:
        return published_shapes(on_meta(lambda: Oobleck(parse_config(config, VAEConfig, where))))
    return parameter_shapes(on_meta(lambda: Qwen3(parse_config(config, Qwen3Config, where))))


def write(
    source: Synthetic, root: Path, dits: Sequence[str] = (DEFAULT_DIT,), lms: Sequence[str] = LMS[:1]
) -> list[Path]:
    """Write `source` under `root` in the published layout; returns the component folders.

    Files are complete or absent: each is renamed into place. Raises UsageError for a folder the source
    does not have and for one that holds another checkpoint, OSError when the place cannot be written.
    """
    configs = {folder: source.config(folder) for folder in (*dits, VAE, TEXT_ENCODER, *lms)}
    for folder, config in configs.items():
        check_free(root / folder, json_file(config))
    sizes = {folder: source.elements(folder) for folder in configs}
    with Progress(sum(sizes.values()), len(sizes)) as progress:
        for folder, config in configs.items():
            progress.step(f"writing {folder}", sizes[folder])
            _write_folder(source, root / folder, config)
    return [root / folder for folder in configs]


def _write_folder(source: Synthetic, path: Path, config: dict[str, Any]) -> None:
    folder = path.name
    path.mkdir(parents=True, exist_ok=True)
    write_whole(path / "config.json", json_file(config))  # first, by which what is begun is known
    xl = folder in DITS and parse_config(config, DiTConfig, folder).is_xl
    write_weights(path, weights_stem(folder), source.weights(folder), XL_SHARDS if xl else 1)
    if folder in DITS:
        latent = source.silence_latent(folder).transpose(1, 2).contiguous()
        save_pickle(path / "silence_latent.pt", latent)
    elif folder != VAE:
        for name, content in tokenizer_files("text" if folder == TEXT_ENCODER else "lm").items():
            write_whole(path / name, content)
