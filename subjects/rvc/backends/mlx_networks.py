"""RVC's networks in MLX in the place of torch's: the same calls, of tensors on the host; the same weights.

The conversion around them is one for all backends. A call computes what it returns, so that spans are true.
Imports mlx (`pip install '.[mlx]'`).
"""

from __future__ import annotations

import ctypes
import time
from importlib.metadata import version
from typing import Any, cast

import mlx.core as mx  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint import on_meta
from harness.memory import MemoryBudget
from subjects.rvc import weights
from subjects.rvc.backends import mlx_rmvpe
from subjects.rvc.backends.mlx_hubert import Hubert
from subjects.rvc.backends.mlx_ops import arrays, on_cpu
from subjects.rvc.backends.mlx_synthesizer import Flow, Generator, TextEncoder
from subjects.rvc.config import Configs, RMVPEConfig
from subjects.rvc.engine import Engine
from subjects.rvc.models import flow, generator, hubert, rmvpe, text_encoder
from subjects.rvc.models.synthesizer import Synthesizer
from subjects.rvc.setup import Setup
from subjects.rvc.weights import Networks

HOST = torch.device("cpu")


class Hosted(nn.Module):
    """A network in MLX that takes and returns tensors on the host."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        output = self.network(*map(_array, inputs))
        return tuple(map(_tensor, output)) if isinstance(output, tuple) else _tensor(output)


class HostedRMVPE(rmvpe.RMVPE):
    """RMVPE whose two parts are computed in MLX; made on meta, it has no weights of its own."""

    def __init__(self, config: RMVPEConfig, network: mlx_rmvpe.RMVPE):
        super().__init__(config)
        self.network = network

    def features(self, mel: Tensor) -> Tensor:
        return _tensor(self.network.features(_array(mel)))

    def salience(self, features: Tensor) -> Tensor:
        return _tensor(self.network.salience(_array(features)))


def hosted(network: nn.Module, config: Any) -> nn.Module:
    """What `network`, one of torch's on the host, computes, with copies of its weights in MLX.

    Of a synthesizer it is the same with its three parts replaced; the source of the pitch stays as it is.
    """
    if isinstance(network, Synthesizer):
        for part in ("enc_p", "flow", "dec"):
            setattr(network, part, hosted(getattr(network, part), config))
        return network
    held = arrays(network)
    if isinstance(network, rmvpe.RMVPE):
        return on_meta(lambda: HostedRMVPE(config, mlx_rmvpe.RMVPE(config, held)))
    kinds = {
        hubert.Hubert: Hubert,
        text_encoder.TextEncoder: TextEncoder,
        flow.Flow: Flow,
        generator.Generator: Generator,
    }
    module = Hosted(kinds[type(network)](config, held))
    if isinstance(network, generator.Generator):
        module.m_source = network.m_source
    return module


def load(setup: Setup) -> Networks:
    """All networks of a setup. Raises CheckpointError."""
    source, configs = weights.open_source(setup), setup.configs
    parts = {
        name: hosted(weights.network(source, configs, name, HOST, torch.float32), _config(configs, name))
        for name in weights.NETWORKS
    }
    return Networks(**cast("dict[str, Any]", parts), device=HOST, dtype=torch.float32)


def engine(setup: Setup) -> Engine:
    """An engine with them, whose requests are those of any other. Raises CheckpointError."""
    start = time.perf_counter()
    networks = load(setup)
    load_s = time.perf_counter() - start
    return Engine(networks, setup, MemoryBudget(HOST), environment(setup), load_s)


def backend() -> str:
    """mlx-gpu; on a CPU mlx-cpu or, with OpenBLAS in its place, mlx-cpu-openblas: never MLX's speed."""
    if not on_cpu():
        return "mlx-gpu"
    return "mlx-cpu-openblas" if openblas() else "mlx-cpu"


def openblas() -> str | None:
    """What the OpenBLAS that this process was started with says of itself, or None if it has none."""
    try:
        config = ctypes.CDLL(None).openblas_get_config
    except AttributeError:
        return None
    config.restype = ctypes.c_char_p
    return config().decode()


def environment(setup: Setup) -> dict[str, Any]:
    """What runs, for records; the device is MLX's own answer."""
    return {
        "backend": backend(),
        "device": str(mx.default_device().type).rpartition(".")[2],
        "dtype": "float32",
        "source": setup.source,
        "source_origin": setup.source_origin,
        "model": setup.model,
        "voice": setup.voice,
        "mlx": version("mlx"),
        "torch": str(torch.__version__),
        "blas": openblas(),
    }


def _config(configs: Configs, name: str) -> Any:
    return getattr(configs, name)


def _array(tensor: Tensor) -> mx.array:
    return mx.array(tensor.numpy())


def _tensor(array: mx.array) -> Tensor:
    return torch.from_numpy(np.array(array))
