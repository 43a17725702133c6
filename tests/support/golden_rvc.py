"""RVC's golden values: tensors that a seed rule of numpy rebuilds, and what the networks make of them.

The values were made in fp64 by the networks' authors' own code.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.tensor_files import Shape

FP64, FP32 = 1e-7, 1e-5  # how far from a golden value, as a share of it or of the output's RMS


def golden_tensor(name: str, shape: Shape) -> Tensor:
    """The tensor that a file holds under `name`, fp64."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith(("weight_g", "original0")):
        return torch.from_numpy(1 + 0.1 * values)
    if name.endswith("running_var"):
        return torch.from_numpy(1 + 0.1 * np.abs(values))
    if len(shape) >= 2:
        return torch.from_numpy(values / math.sqrt(math.prod(shape[1:])))
    centre = 1.0 if name.endswith(("weight", "gamma")) else 0.0
    return torch.from_numpy(centre + 0.1 * values)


def golden_tensors(shapes: Mapping[str, Shape]) -> dict[str, Tensor]:
    """All tensors of a file of these names and shapes."""
    return {name: golden_tensor(name, shape) for name, shape in shapes.items()}


def drawn(seed: int, *shape: int) -> Tensor:
    """Inputs: standard normal values, fp64."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))


@dataclass(frozen=True)
class Golden:
    """What is known of an output: its RMS, its first values in row-major order, and its last."""

    rms: float
    first: tuple[float, ...]
    last: float

    def error(self, output: Tensor) -> float:
        """The farthest that `output` is from any of them, as a share of the RMS."""
        flat = output.double().flatten()
        first, last = flat[: len(self.first)].tolist(), flat[-1].item()
        got = (flat.square().mean().sqrt().item(), *first, last)
        return (
            max(abs(a - b) for a, b in zip(got, (self.rms, *self.first, self.last), strict=True)) / self.rms
        )


CNN = Golden(8.53546774, (-0.6752293, 4.4154031), 1.063911)
SALIENCE = Golden(0.521166683, (0.35872105, 0.44983711), 0.51223787)
