"""Synthetic checkpoints: random weights at the published names and shapes.

Time and memory of a fixed-step DiT, a VAE and a forced-length language model do not depend on the
values of the weights, so random ones measure what the real ones would.

    synthetic-full   the published widths (2B and XL DiT, 0.6B/1.7B/4B language models), bf16; XL fp32
    synthetic-tiny   the same structure, narrow; fp32; seconds on two cores. Widths are chosen so that
                     planner, diffusion and VAE each take a visible share, as they do at full size: a
                     change to any of them shows in the whole

Every tensor is drawn from a generator seeded by (seed, component, name): the same bytes whatever is
loaded, in whatever order. `write` puts a checkpoint on disk in the published layout, one tensor in
memory at a time.

    python -m acestep write-checkpoint synthetic-tiny ./checkpoints
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
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
from harness.errors import UsageError
from harness.files import regular, replacing, write_whole
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3
from harness.tensor_files import Shape

XL_SHARDS = 4
SAFETENSORS_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}


class RandomWeights:
    """Tensors drawn on demand, scaled so that activations stay of order one through any depth."""

    def __init__(self, where: str, shapes: Mapping[str, Shape], dtype: torch.dtype, seed: int):
        self.where = where
        self._shapes = shapes
        self.dtype = dtype
        self._seed = seed
        self._depth = 1 + max(
            (int(n.split("layers.")[1].split(".")[0]) for n in shapes if "layers." in n), default=0
        )

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        shape = self._shapes[name]
        mean, std = self._law(name, shape)
        if std == 0:
            return torch.full(shape, mean, dtype=self.dtype)
        seed = zlib.crc32(f"{self._seed}:{self.where}:{name}".encode())
        generator = torch.Generator().manual_seed(seed)
        return torch.empty(shape, dtype=self.dtype).normal_(mean, std, generator=generator)

    def _law(self, name: str, shape: Shape) -> tuple[float, float]:
        """Mean and standard deviation of a tensor, by the part it plays."""
        leaf = name.rpartition(".")[2]
        if leaf == "weight_g":
            return self._gain(name), 0.0
        if leaf in ("alpha", "beta"):
            return 0.0, 0.1
        if leaf == "bias":
            return 0.0, 0.02
        if "norm" in name:
            return 1.0, 0.02
        if len(shape) < 2 or shape[0] == 1:  # scale_shift tables and learned tokens
            return 0.0, max(shape) ** -0.5
        if name == "embed_tokens.weight":
            return 0.0, 2 * shape[1] ** -0.5
        fan_in = math.prod(shape[1:])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            return 0.0, (2 * self._depth * fan_in) ** -0.5
        return 0.0, fan_in**-0.5

    def _gain(self, name: str) -> float:
        """Weight-norm length that keeps the variance of a convolution's output near its input's."""
        if name == "decoder.conv2.weight_g":
            return 0.1  # audible, and clear of clipping
        if "res_unit" in name and ".conv2." in name:
            return 0.3
        if ".conv_t1." in name:
            cin, cout, kernel = self._shapes[name.replace("weight_g", "weight_v")]
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
        return RandomWeights(f"{self.name}/{folder}", _shapes(self.name, folder), dtype, self.seed)

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
        if not _is_free(root / folder, _json(config)):
            raise UsageError(
                f"{str(root / folder)!r} is there and would be lost: it holds another checkpoint; "
                "name another folder, or move it away"
            )
    for folder, config in configs.items():
        path = root / folder
        path.mkdir(parents=True, exist_ok=True)
        write_whole(path / "config.json", _json(config))  # first, by which what is begun is known
        xl = folder in DITS and parse_config(config, DiTConfig, folder).is_xl
        _write_weights(path, weights_stem(folder), source.weights(folder), XL_SHARDS if xl else 1)
        if folder in DITS:
            latent = source.silence_latent(folder).transpose(1, 2).contiguous()
            # Through a file: torch writes the name of a path into the archive, and that of a part is its own.
            with replacing(path / "silence_latent.pt") as part, part.open("wb") as part_file:
                torch.save(latent, part_file)
        elif folder != VAE:
            for name, content in tokenizer_files("text" if folder == TEXT_ENCODER else "lm").items():
                write_whole(path / name, content)
    return [root / folder for folder in configs]


def _is_free(path: Path, config: bytes) -> bool:
    """Whether the folder holds nothing but what is written there with `config`."""
    try:
        with regular(path / "config.json").open("rb") as file:
            return file.read(len(config) + 1) == config
    except FileNotFoundError:
        return not any(path.glob("[!.]*"))


def _write_weights(path: Path, stem: str, weights: RandomWeights, count: int) -> None:
    """One file, or `count` shards and then the index that names them."""
    shapes = weights.shapes()
    if count == 1:
        return _save(path / f"{stem}.safetensors", weights, list(shapes))
    home: dict[str, str] = {}
    for number, names in enumerate(shards(shapes, count), start=1):
        shard = f"{stem}-{number:05}-of-{count:05}.safetensors"
        _save(path / shard, weights, names)
        home |= dict.fromkeys(names, shard)
    elements = sum(map(math.prod, shapes.values()))
    size = {"total_parameters": elements, "total_size": elements * weights.dtype.itemsize}
    index = _json({"metadata": size, "weight_map": home}, sort_keys=True)
    write_whole(path / f"{stem}.safetensors.index.json", index)


def shards(shapes: Mapping[str, Shape], count: int) -> list[list[str]]:
    """Names in `count` runs: each ends with the last tensor that does not cross its share of the whole."""
    total, end = sum(map(math.prod, shapes.values())), 0
    runs: list[list[str]] = [[] for _ in range(count)]
    for name, shape in shapes.items():
        end += math.prod(shape)
        runs[(end - 1) * count // total].append(name)
    return runs


def _save(path: Path, weights: RandomWeights, names: Sequence[str]) -> None:
    """A safetensors file of `names`: the header's length, the header, then each tensor as it is drawn."""
    names, shapes = sorted(names), weights.shapes()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + math.prod(shapes[name]) * weights.dtype.itemsize
        header[name] = {
            "dtype": SAFETENSORS_NAMES[weights.dtype],
            "shape": shapes[name],
            "data_offsets": (start, end),
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            weights.read(name).view(torch.uint8).numpy().tofile(file)


def _json(content: dict[str, Any], sort_keys: bool = False) -> bytes:
    return json.dumps(content, indent=2, sort_keys=sort_keys).encode() + b"\n"
