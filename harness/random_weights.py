"""Made-up weights: tensors drawn at the names and shapes of a model, scaled as a law says.

Every tensor is drawn from a generator seeded by (seed, component, name): the same bytes whatever is
loaded, in whatever order.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from harness.tensor_files import Shape

Law = Callable[[str, Shape], tuple[float, float]]  # mean and standard deviation of a tensor


class RandomWeights:
    """The tensors of the component `where`, by name, drawn on demand in `dtype` as `law` says."""

    def __init__(self, where: str, shapes: Mapping[str, Shape], dtype: torch.dtype, seed: int, law: Law):
        self.where = where
        self._shapes = shapes
        self.dtype = dtype
        self._seed = seed
        self._law = law

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


class ByFanIn:
    """The law that keeps activations of order one through any depth: a variance of one over the fan-in.

    What adds to the residual stream is smaller by the depth, which is read from the names of layers.
    """

    def __init__(self, shapes: Mapping[str, Shape]):
        self.shapes = shapes
        self._depth = 1 + max(
            (int(n.split("layers.")[1].split(".")[0]) for n in shapes if "layers." in n), default=0
        )

    def __call__(self, name: str, shape: Shape) -> tuple[float, float]:
        if name.endswith(".bias"):
            return 0.0, 0.02
        if "norm" in name:
            return 1.0, 0.02
        if len(shape) < 2 or shape[0] == 1:  # tables of shifts and scales, learned tokens
            return 0.0, max(shape) ** -0.5
        fan_in = math.prod(shape[1:])
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            return 0.0, (2 * self._depth * fan_in) ** -0.5
        return 0.0, fan_in**-0.5
