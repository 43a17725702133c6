"""From a source to networks in memory: a published folder, or made-up weights at its names and shapes.

Everything is held against the networks' names and shapes before a byte of it is read; then each tensor is
read, cast and moved by itself. The codec's encoder has no use here and is not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness import engine
from harness.checkpoint import SafetensorsFile, Weights, check_shapes, materialise, on_meta
from harness.checkpoint_writing import write_weights
from harness.files import write_whole
from harness.nn.folded import fold, stored_shapes
from harness.random_weights import ByFanIn, RandomWeights
from harness.tensor_files import Shape
from subjects.qwen3_tts import checkpoint
from subjects.qwen3_tts.checkpoint import Configs
from subjects.qwen3_tts.layout import (
    CODE_PREDICTOR,
    CODEC,
    DECODER,
    ENCODER,
    SPEAKER_ENCODER,
    STEM,
    SYNTHETIC,
    TALKER,
    TINY,
)
from subjects.qwen3_tts.models.code_predictor import CodePredictor
from subjects.qwen3_tts.models.decoder import Decoder
from subjects.qwen3_tts.models.speaker import SpeakerEncoder
from subjects.qwen3_tts.models.talker import Talker
from subjects.qwen3_tts.synthetic_configs import CODECS, MODELS
from subjects.qwen3_tts.text import made_up


class Source(Protocol):
    """Where weights come from."""

    name: str

    def model(self) -> Weights:
        """Talker, code predictor, speaker encoder."""
        ...

    def codec(self) -> Weights:
        """The decoder, with or without the encoder."""
        ...


class Folder:
    """The folder of a published model."""

    def __init__(self, root: Path):
        self.name = str(root)
        self._root = root

    def model(self) -> Weights:
        return SafetensorsFile(self._root, STEM)

    def codec(self) -> Weights:
        return SafetensorsFile(self._root / CODEC, STEM)


class Synthetic:
    """Made-up weights of a `variant`."""

    def __init__(self, name: str, variant: str, seed: int = 0):
        self.name = name
        self.variant = variant
        self.seed = seed

    def model(self) -> RandomWeights:
        shapes, _ = _shapes(self.name, self.variant)
        dtype = getattr(torch, MODELS[self.name][self.variant]["torch_dtype"])
        return RandomWeights(f"{self.name}/{self.variant}", shapes, dtype, self.seed, Law(shapes))

    def codec(self) -> RandomWeights:
        _, shapes = _shapes(self.name, self.variant)
        dtype = getattr(torch, CODECS[self.name]["torch_dtype"])
        scale = 1.0 if self.name == TINY else CODECS[self.name]["decoder_config"]["layer_scale_initial_scale"]
        return RandomWeights(f"{self.name}/{CODEC}", shapes, dtype, self.seed, Law(shapes, scale))


class Law(ByFanIn):
    """How tensors are drawn. `scale`: mean of layer scales and of a ConvNeXt's gamma; near 1 an error of the
    decoder's context is heard, which 0.01 hides."""

    def __init__(self, shapes: Mapping[str, Shape], scale: float = 1.0):
        super().__init__(shapes)
        self._scale = scale

    def __call__(self, name: str, shape: Shape) -> tuple[float, float]:
        leaf = name.rpartition(".")[2]
        if leaf in ("scale", "gamma"):
            return self._scale, 0.1 * self._scale
        if leaf in ("alpha", "beta"):
            return 0.0, 0.1
        if leaf == "cluster_usage":
            return 1.0, 0.02
        if leaf == "embedding_sum":  # of which 16 are added
            return 0.0, 0.25
        if "_embedding" in name:
            return 0.0, 1.0
        if name == "decoder.decoder.6.conv.weight":
            return 0.0, 0.04 * (shape[1] * shape[2]) ** -0.5  # audible, and clear of clipping
        if name.startswith("decoder.decoder.") and ".block." in name:
            if name.endswith(".block.1.conv.weight"):  # transposed: every sample is of two of its columns
                return 0.0, (2 * shape[0]) ** -0.5
            if ".conv2." in name and leaf == "weight":  # what a unit adds
                return 0.0, 0.3 * shape[1] ** -0.5
        if name.startswith("decoder.upsample.") and name.endswith(".0.conv.weight"):
            return 0.0, shape[0] ** -0.5
        return super().__call__(name, shape)


@dataclass(frozen=True, slots=True)
class _Part:
    """A network on the meta device, and what its names begin with in its file."""

    name: str
    module: nn.Module
    prefix: str

    @property
    def shapes(self) -> dict[str, Shape]:
        return stored_shapes(self.module, self.prefix)

    def materialise(self, weights: Weights, device: torch.device, dtype: torch.dtype) -> None:
        """Give the network its tensors."""
        read = partial(fold, self.module, read=lambda name: weights.read(self.prefix + name))
        materialise(self.module, read, device=device, dtype=dtype)


def _empty(configs: Configs) -> list[_Part]:
    """The networks without memory, the decoder last."""
    width = configs.talker.hidden_size
    parts = [
        _Part("talker", on_meta(lambda: Talker(configs.talker)), TALKER),
        _Part("code_predictor", on_meta(lambda: CodePredictor(configs.predictor, width)), CODE_PREDICTOR),
    ]
    if speaker := configs.speaker:
        parts.append(_Part("speaker_encoder", on_meta(lambda: SpeakerEncoder(speaker)), SPEAKER_ENCODER))
    return [*parts, _Part("decoder", on_meta(lambda: Decoder(configs.decoder)), DECODER)]


@cache
def _shapes(source: str, variant: str) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Names and shapes of both files of a made-up model."""
    *networks, decoder = _empty(checkpoint.read(source, variant))
    return {name: shape for part in networks for name, shape in part.shapes.items()}, decoder.shapes


@dataclass(frozen=True, slots=True)
class Networks(engine.Networks):
    """Everything a request reads, on `device` in `dtype`. No `speaker_encoder` in what is no Base model."""

    talker: Talker
    code_predictor: CodePredictor
    speaker_encoder: SpeakerEncoder | None
    decoder: Decoder
    device: torch.device
    dtype: torch.dtype

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """By name, in the order a request runs them."""
        for name in ("talker", "code_predictor", "speaker_encoder", "decoder"):
            if (module := getattr(self, name)) is not None:
                yield name, module


def open_source(setup_source: str, model: str) -> Source:
    """The source of a setup, of whose `model` the weights are."""
    if setup_source in SYNTHETIC:
        return Synthetic(setup_source, model)
    return Folder(Path(setup_source))


def load(source: Source, configs: Configs, device: torch.device, dtype: torch.dtype) -> Networks:
    """The networks of `configs` with the weights of `source`.

    Raises CheckpointError where names or shapes are not theirs, or fp16 has no room for a value.
    """
    parts, model, codec = _empty(configs), source.model(), source.codec()
    check_shapes({n: s for part in parts[:-1] for n, s in part.shapes.items()}, model)
    check_shapes(parts[-1].shapes, _Without(codec, ENCODER))
    for part in parts:
        part.materialise(codec if part.prefix == DECODER else model, device, dtype)
    modules: dict[str, Any] = {"speaker_encoder": None} | {part.name: part.module for part in parts}
    networks = Networks(**modules, device=device, dtype=dtype)
    with torch.inference_mode():
        networks.code_predictor.prepare(networks.talker.model.codec_embedding.weight)
    return networks


def network(
    source: Source, configs: Configs, name: str, device: torch.device, dtype: torch.dtype
) -> nn.Module:
    """The network `name` of `Networks.modules` by itself; names and shapes are not held against the file."""
    part = next(part for part in _empty(configs) if part.name == name)
    weights = source.codec() if part.prefix == DECODER else source.model()
    part.materialise(weights, device, dtype)
    if isinstance(part.module, CodePredictor):
        table = weights.read(f"{TALKER}model.codec_embedding.weight")
        with torch.inference_mode():
            part.module.prepare(table.to(device, dtype))
    return part.module


class _Without:
    """The tensors of `held` but those whose names begin with `prefix`."""

    def __init__(self, held: Weights, prefix: str):
        self.where = held.where
        self._held = held
        self._shapes = {name: shape for name, shape in held.shapes().items() if not name.startswith(prefix)}

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def read(self, name: str) -> Tensor:
        return self._held.read(name)


def write(source: Synthetic, folder: Path) -> Path:
    """Write `source` to `folder` in the published layout; each file is complete or absent.

    Raises UsageError for a folder that holds something else, OSError where it cannot be written.
    """
    checkpoint.begin(source.name, source.variant, folder)
    write_weights(folder, STEM, source.model())
    write_weights(folder / CODEC, STEM, source.codec())
    for name, data in made_up().items():
        write_whole(folder / name, data)
    return folder
