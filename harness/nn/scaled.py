"""Products of whole numbers in fp16, whose sums are scaled only afterwards.

The largest weight of a row is 127 in int8: before its scale is applied, a sum is that of weights up to 127,
whatever the weights are, and fp16 ends at 65,504.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHARE = 2.0**-9  # a power of two, so only inputs below 0.03 round: by 2e-5 at most


class ScaledLinear(nn.Linear):
    """A linear whose input is made smaller by a power of two, and its result larger by the same.

    Its sums are those with weights up to a quarter.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input * SHARE) * (1 / SHARE)


def hold_sums(layer: nn.Module) -> None:
    """Keep the sums of the quantized linears of `layer` within range, where they are of fp16."""
    for module in layer.modules():
        if type(module) is nn.Linear and module.weight.dtype == torch.float16:
            module.__class__ = ScaledLinear
