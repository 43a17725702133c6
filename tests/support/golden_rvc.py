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
        values /= math.sqrt(math.prod(shape[1:]))
        return torch.from_numpy(values)
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
        values = (flat.square().mean().sqrt().item(), *first, last)
        stored = self.rms, *self.first, self.last
        return max(abs(a - b) for a, b in zip(values, stored, strict=True)) / self.rms


CNN = Golden(8.53546774, (-0.6752293, 4.4154031), 1.063911)
SALIENCE = Golden(0.521166683, (0.35872105, 0.44983711), 0.51223787)
LATENT_MEAN = Golden(1.0369004, (-0.80401185, 0.42872921), -0.093286371)  # of the text encoder, [192, 16]
LATENTS = Golden(2.16980227, (0.44876689, 2.3348834), -2.2425253)  # of the flow, [192, 16]
AUDIO = {
    "48k": Golden(0.2111128, (-0.2022013,), 0.0887414),
    "40k": Golden(0.2340570, (-0.2008547,), 0.1273796),
    "32k": Golden(0.2456975, (-0.2543424,), 0.0983271),
}
AUDIO_LIMIT = 1e-5  # in fp64 as well: the source that these were made with is fp32
HUBERT = Golden(1.01485459, (1.3446321, 1.0559883), -0.035536823)
HUBERT_9 = Golden(1.00010306, (-0.47732348,), 0.4420095)  # after nine layers
