"""Islands of fp32: modules that keep their weights, and compute, in fp32 where the model is in fp16.

fp16 ends at 65,504. A product beyond that is made in an island, which hands on fp32; the next norm, an island
too, brings it back into range, and only then is it put into the model's dtype again.

    self.down_proj = WideLinear(...)      # x + down_proj(x) is fp32 from here on
    self.norm = WideRMSNorm(...)
    return self.norm(x).to(dtype)

In a model of another dtype there are none, and each computes what its base class does, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.nn.blocks import RMSNorm


class Island(nn.Module):
    """What marks a module as an island, before the class that it is one of."""


class WideLinear(Island, nn.Linear):
    """A linear as an island."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.to(self.weight.dtype))


class WideRMSNorm(Island, RMSNorm):
    """A norm as an island."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def kept_dtype(module: nn.Module, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of the parameter `name` of `module`, where the model is in `dtype`."""
    owner = module.get_submodule(name.rpartition(".")[0])
    return torch.float32 if dtype == torch.float16 and isinstance(owner, Island) else dtype


def islands(model: nn.Module, dtype: torch.dtype) -> Iterator[str]:
    """Names of the modules of `model` that are wider than `dtype`: by their weights, which have values."""
    for name, module in model.named_modules():
        if isinstance(module, Island) and any(
            not w.is_meta and w.dtype != dtype for w in module.parameters()
        ):
            yield name
