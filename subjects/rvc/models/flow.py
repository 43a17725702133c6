"""The flow (arXiv:2106.06103), run backwards: latents of anybody to latents of one speaker.

4 x: channels reversed, then half of them moved by what a WaveNet makes of the other half
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subjects.rvc.chunks import chunks
from subjects.rvc.closed_form import flow_context
from subjects.rvc.config import SynthesizerConfig
from subjects.rvc.models.conv import BY_ROW, Conv


class WaveNet(nn.Module):
    """Gated convolutions `[B, T, H] -> [B, T, H]`, each moved by the speaker's row `g [B, 1, G]`."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        width, layers = config.hidden, config.flow_layers
        self.cond_layer = Conv(config.gin, 2 * width * layers, norm=BY_ROW)
        self.in_layers = nn.ModuleList(
            Conv(width, 2 * width, config.flow_kernel, norm=BY_ROW) for _ in range(layers)
        )
        widths = [*[2 * width] * (layers - 1), width]
        self.res_skip_layers = nn.ModuleList(Conv(width, out, norm=BY_ROW) for out in widths)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        shifts = self.cond_layer(g).chunk(len(self.in_layers), dim=-1)
        *layers, (last, shift, skip) = zip(self.in_layers, shifts, self.res_skip_layers, strict=True)
        total = torch.zeros_like(x)
        for layer, move, res_skip in layers:
            residual, skipped = res_skip(_gated(layer(x).add_(move))).chunk(2, dim=-1)
            x, total = x + residual, total.add_(skipped)
        return skip(_gated(last(x).add_(shift))).add_(total)


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, dim=-1)
    return value.tanh().mul_(gate.sigmoid())


class Coupling(nn.Module):
    """Backwards: the second half of `z [B, T, C]` less what the first half says."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        half = config.inter // 2
        self.pre = Conv(half, config.hidden)
        self.enc = WaveNet(config)
        self.post = Conv(config.hidden, half)

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        first, second = z.chunk(2, dim=-1)
        return torch.cat((first, second - self.post(self.enc(self.pre(first), g))), dim=-1)


def reversed_channels(z: Tensor) -> Tensor:
    return z.flip(-1)


class Flow(nn.Module):
    """Weights as published below `flow.`: of the list there every other member is a reversal."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        self.context = flow_context(config)
        self.flows = nn.ModuleDict({str(2 * index): Coupling(config) for index in range(config.flows)})

    def forward(self, z: Tensor, g: Tensor) -> Tensor:
        """Latents `[B, T, C]` of the speaker `g [B, 1, G]`, of `z [B, T, C]`."""
        for coupling in reversed([*self.flows.values()]):
            z = coupling(reversed_channels(z), g)
        return z

    def chunked(self, z: Tensor, g: Tensor, frames: int, context: int | None = None) -> Tensor:
        """The same in pieces of `frames`.

        `context`: frames computed with each piece, before it and behind; by default as many as it sees, which
        is exact.
        """
        context = self.context if context is None else context
        pieces = chunks(z.shape[1], frames, (context, context))
        return torch.cat([self(z[:, p.first : p.last], g)[:, p.kept] for p in pieces], dim=1)
