"""Snake (arXiv:2006.08195): the activation of vocoders, periodic in each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.nn.folded import wide


class Snake(nn.Module):
    """`x + sin²(frequency·x)·gain` for `x [B, C, n]`, both of them per channel.

    Trained are their logarithms: frequency = e^alpha, gain = 1 / (e^beta + 1e-9).
    """

    def __init__(self, channels: int):
        super().__init__()
        self.frequency = nn.Parameter(torch.ones(1, channels, 1))
        self.gain = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        # In place on its own temporary: of music at 48 kHz one activation is a quarter gigabyte.
        squared = (x * self.frequency).sin_().square_()
        return torch.addcmul(x, squared, self.gain, out=squared)


def unlogged(parameter: str, log: Tensor) -> Tensor:
    """The `parameter` of a Snake, `frequency` or `gain`, `[1, C, 1]`, from C values of alpha or beta."""
    values = wide(log).exp().view(1, -1, 1)
    return values if parameter == "frequency" else 1 / (values + 1e-9)


# Names of the logarithms that files hold.
LOGS = {"frequency": "alpha", "gain": "beta"}
