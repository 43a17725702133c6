"""From a source to networks in memory: published files, or made-up weights at their names and shapes.

Names and shapes are held against the networks before anything is loaded by them; then each tensor is read,
cast and moved by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from harness import engine
from harness.checkpoint import SafetensorsFile, Weights, check_shapes, materialise, on_meta
from harness.checkpoint_writing import save_pickle, write_weights
from harness.errors import CheckpointError
from harness.nn.folded import fold, stored_shapes, wide
from harness.pickled import PickledWeights
from harness.random_weights import ByFanIn, RandomWeights
from harness.tensor_files import Shape, is_there
from subjects.rvc import checkpoint
from subjects.rvc.config import Configs, SynthesizerConfig
from subjects.rvc.layout import (
    CONFIG,
    COUNTER,
    F0,
    HUBERT,
    HUBERT_PICKLE,
    HUBERT_STEM,
    RATE,
    RMVPE,
    SUPPORTED,
    SYNTHETIC,
    UNUSED,
    VERSION,
    VOICE_SUFFIX,
    WEIGHT,
)
from subjects.rvc.models.conv import Respelled
from subjects.rvc.models.hubert import Hubert
from subjects.rvc.models.rmvpe import RMVPE as Pitch
from subjects.rvc.models.synthesizer import Synthesizer
from subjects.rvc.setup import Setup
from subjects.rvc.synthetic_configs import begin

SYNTHESIZER = "synthesizer"
NETWORKS = (RMVPE, HUBERT, SYNTHESIZER)  # in the order a request runs them
LISTENERS = "all rates"  # of made-up networks, which hear the same whatever voice there is


class Source(Protocol):
    """Where weights come from."""

    def weights(self, network: str) -> Weights:
        """The tensors of one of `NETWORKS`."""
        ...


class Files:
    """What a setup names: a folder, and the file of a voice."""

    def __init__(self, setup: Setup):
        self._folder = Path(setup.source)
        self._voice = Path(setup.voice) if setup.voice else checkpoint.voice_path(setup.source, setup.model)

    def weights(self, network: str) -> Weights:
        if network == SYNTHESIZER:
            return PickledWeights(str(self._voice), checkpoint.read_voice(self._voice).weights)
        if network == RMVPE:
            if is_there(self._folder, RMVPE):
                return SafetensorsFile(self._folder, RMVPE)
            path = self._folder / f"{RMVPE}.pt"
            return PickledWeights(str(path), checkpoint.rmvpe_pickle(path))
        folder = self._folder / HUBERT
        if is_there(folder, HUBERT_STEM) or not (folder / HUBERT_PICKLE).exists():
            return SafetensorsFile(folder, HUBERT_STEM)
        from harness.pickled import load

        return PickledWeights(str(folder / HUBERT_PICKLE), load(folder / HUBERT_PICKLE))


class Synthetic:
    """Made-up weights of the voice of a `rate`, in the number formats that are published."""

    def __init__(self, name: str, rate: str, seed: int = 0):
        self.name = name
        self.rate = rate
        self.seed = seed

    def weights(self, network: str) -> RandomWeights:
        shapes = stored_shapes(empty(network, checkpoint.read(self.name, self.rate)))
        dtype = torch.float32 if network == HUBERT else torch.float16
        where = f"{self.name}/{self.rate if network == SYNTHESIZER else LISTENERS}/{network}"
        return RandomWeights(where, shapes, dtype, self.seed, Law(shapes))


class Mixed:
    """Made-up networks that listen, and a voice of a file."""

    def __init__(self, setup: Setup):
        assert setup.voice
        self._listeners = Synthetic(setup.source, checkpoint.DEFAULT_RATE)
        self._voice = Path(setup.voice)

    def weights(self, network: str) -> Weights:
        if network == SYNTHESIZER:
            return PickledWeights(str(self._voice), checkpoint.read_voice(self._voice).weights)
        return self._listeners.weights(network)


class Law(ByFanIn):
    """How tensors are drawn: statistics of batch norms and the flow's last convolutions away from what
    training begins with, at which errors of theirs would not be heard."""

    def __call__(self, name: str, shape: Shape) -> tuple[float, float]:
        leaf = name.rpartition(".")[2]
        if leaf in ("weight_g", "original0", "running_var", "gamma"):
            return 1.0, 0.1
        if leaf in ("running_mean", "beta"):
            return 0.0, 0.1
        if name.startswith("unet.") and name.endswith(".conv.4.weight"):  # what a block adds, of 56
            return 0.25, 0.025
        if leaf == "weight" and len(shape) == 1:  # of norms
            return 1.0, 0.1
        if name.endswith((".emb_pitch.weight", "emb_g.weight")):
            return 0.0, 1.0
        if name == "dec.conv_post.weight":
            return 0.0, 0.3 * (shape[1] * shape[2]) ** -0.5  # heard, and clear of clipping
        if ".conv1.0.weight" in name:  # transposed: of nine taps a place meets a quarter
            return 0.0, (shape[0] * shape[2] * shape[3] / 4) ** -0.5
        return super().__call__(name, shape)


class Fitted:
    """The tensors of `held` by the names that a network has, what it does not compute with left out.

    Reading raises CheckpointError for a variance below zero.
    """

    def __init__(self, held: Weights, expected: Mapping[str, Shape]):
        self._held = Respelled(_Known(held), expected)
        self.where = held.where

    def shapes(self) -> Mapping[str, Shape]:
        return self._held.shapes()

    def read(self, name: str) -> Tensor:
        value = self._held.read(name)
        if name.endswith("running_var") and not bool((value >= 0).all()):
            raise CheckpointError(f"{self.where}: {name} is below zero, and is a variance; download it again")
        return wide(value)


class _Known:
    """The tensors of `held` but for counters and what nothing here computes."""

    def __init__(self, held: Weights):
        self.where = held.where
        self.read = held.read
        self._shapes = {
            name: shape
            for name, shape in held.shapes().items()
            if not name.endswith(COUNTER) and not name.startswith(UNUSED)
        }

    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes


@dataclass(frozen=True, slots=True)
class Networks(engine.Networks):
    """Everything a request reads, on `device` in `dtype`."""

    rmvpe: Pitch
    hubert: Hubert
    synthesizer: Synthesizer
    device: torch.device
    dtype: torch.dtype

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """By name, in the order a request runs them."""
        for name in NETWORKS:
            yield name, getattr(self, name)


def empty(network: str, configs: Configs, *, folded: bool = True) -> nn.Module:
    """One of `NETWORKS` without memory; RMVPE's batch norms are left in where it is not `folded`."""
    builds: dict[str, Callable[[], nn.Module]] = {
        RMVPE: lambda: Pitch(configs.rmvpe, folded=folded),
        HUBERT: lambda: Hubert(configs.hubert),
        SYNTHESIZER: lambda: Synthesizer(configs.synthesizer),
    }
    return on_meta(builds[network])


def open_source(setup: Setup) -> Source:
    """The source of a setup's weights."""
    if setup.source not in SYNTHETIC:
        return Files(setup)
    return Mixed(setup) if setup.voice else Synthetic(setup.source, setup.model)


def network(
    source: Source,
    configs: Configs,
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    part: str = "",
    folded: bool = True,
) -> Any:
    """One of `NETWORKS` with the weights of `source`, or the `part` of it alone.

    Raises CheckpointError where names, shapes or values are not the network's.
    """
    whole = empty(name, configs, folded=folded)
    expected = stored_shapes(whole)
    weights = Fitted(source.weights(name), expected)
    check_shapes(expected, weights)
    module, prefix = whole.get_submodule(part), f"{part}." if part else ""
    read = partial(fold, module, read=lambda leaf: weights.read(prefix + leaf))
    materialise(module, read, device=device, dtype=dtype)
    return module


def load(source: Source, configs: Configs, device: torch.device, dtype: torch.dtype) -> Networks:
    """All of them. Raises as `network` does."""
    modules = {name: network(source, configs, name, device, dtype) for name in NETWORKS}
    return Networks(**modules, device=device, dtype=dtype)


def write(source: Synthetic, folder: Path) -> Path:
    """Write `source` to `folder` in the published layout, its voice as `<rate>.pth`; each file is complete or
    absent.

    Raises UsageError for a folder that holds something else, OSError where it cannot be written.
    """
    begin(source.name, source.rate, folder)
    write_weights(folder / HUBERT, HUBERT_STEM, source.weights(HUBERT))
    save_pickle(folder / f"{RMVPE}.pt", _tensors(source.weights(RMVPE)))
    voice = {
        WEIGHT: _tensors(source.weights(SYNTHESIZER)),
        CONFIG: voice_list(checkpoint.read(source.name, source.rate).synthesizer),
        "info": f"{source.name}, made up",
        RATE: source.rate,
        F0: 1,
        VERSION: SUPPORTED,
    }
    save_pickle(folder / f"{source.rate}{VOICE_SUFFIX}", voice)
    return folder


def _tensors(weights: RandomWeights) -> dict[str, Tensor]:
    return {name: weights.read(name) for name in weights.shapes()}


def voice_list(config: SynthesizerConfig) -> list[Any]:
    """The list `config` of a voice's file, by `layout.POSITIONS`."""
    spectrum = 513 if config.sample_rate == 32_000 else 1025  # of training
    return [
        *(spectrum, 32, config.inter, config.hidden, config.filter, config.heads, config.layers),
        *(config.kernel, 0, "1", list(config.resblock_kernels)),
        [list(config.dilations) for _ in config.resblock_kernels],
        *(list(config.rates), config.initial, list(config.kernels)),
        *(config.speakers, config.gin, config.sample_rate),
    ]
