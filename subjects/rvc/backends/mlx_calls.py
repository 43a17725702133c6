"""What the process of MLX serves: each network is loaded once, and stays. Imports mlx."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from subjects.rvc import networks, pitch
from subjects.rvc.backends import mlx_networks
from subjects.rvc.engine import Engine
from subjects.rvc.setup import Setup

PITCH, SYNTHESIS = "pitch", "synthesis"  # parts of a conversion beside its components

engine = cache(mlx_networks.engine)


def called(setup: Setup, name: str, inputs: tuple[Tensor, ...]) -> tuple[float, float, Tensor]:
    """Seconds of a call, of the wall and of all processors, and its output."""
    call = _callable(setup, name)
    with torch.inference_mode():
        start, cpu = time.perf_counter(), time.process_time()
        output = call(*inputs)
        return time.perf_counter() - start, time.process_time() - cpu, output


@cache
def _callable(setup: Setup, name: str) -> Callable[..., Tensor]:
    if name in (PITCH, SYNTHESIS):
        loaded: Engine = engine(setup)
        if name == SYNTHESIS:
            return loaded.models.synthesizer
        return partial(pitch.estimate, loaded.models.rmvpe)
    part = networks.of(setup)[name]
    network = mlx_networks.hosted(part.build(mlx_networks.HOST, torch.float32), part.config)
    return partial(part.run, network)
