"""The generator (NSF-HiFi-GAN): latents at 100 Hz and a source at the output's rate to a waveform.

    latents ─▶ convolution ─▶ 4 x (upsample; + the source at that rate; mean of 3 residual blocks)
            ─▶ convolution ─▶ tanh

Convolutions alone, so an output depends on a few frames around it: 10 at 48 kHz, 11 at 40 and 32. It is 81 %
of a conversion's work.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subjects.rvc.chunks import chunks
from subjects.rvc.closed_form import ENDS_KERNEL, generator_context, noise_kernel
from subjects.rvc.config import SynthesizerConfig
from subjects.rvc.models.conv import BY_ROW, Conv, Upsampling
from subjects.rvc.models.source import Source

SLOPE, LAST_SLOPE = 0.1, 0.01  # of leaky ReLUs


class ResidualBlock(nn.Module):
    """For each dilation: `x + conv(lrelu(dilated conv(lrelu(x))))`."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            Conv(channels, channels, kernel, dilation=dilation, norm=BY_ROW) for dilation in dilations
        )
        self.convs2 = nn.ModuleList(Conv(channels, channels, kernel, norm=BY_ROW) for _ in dilations)

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        """Of `x [B, n, C]` and of what its leaky ReLU is, which blocks side by side share."""
        for index, (first, second) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            if index:
                activated = F.leaky_relu(x, SLOPE)
            x = second(F.leaky_relu_(first(activated), SLOPE)).add_(x)
        return x


class Generator(nn.Module):
    """Weights as published below `dec.`."""

    def __init__(self, config: SynthesizerConfig):
        super().__init__()
        stages = range(len(config.rates))
        widths = [config.initial >> stage for stage in (*stages, len(stages))]
        self.hop, self.context = config.hop, generator_context(config)
        self.m_source = Source(config.hop, config.sample_rate)
        self.conv_pre = Conv(config.inter, widths[0], ENDS_KERNEL)
        self.cond = Conv(config.gin, widths[0])
        self.ups = nn.ModuleList(
            Upsampling(channels, out, kernel, rate, BY_ROW)
            for channels, out, kernel, rate in zip(
                widths[:-1], widths[1:], config.kernels, config.rates, strict=True
            )
        )
        strides = [math.prod(config.rates[stage + 1 :]) for stage in stages]
        self.noise_convs = nn.ModuleList(
            Conv(1, out, noise_kernel(stride), stride=stride, padding=stride // 2)
            for out, stride in zip(widths[1:], strides, strict=True)
        )
        self.resblocks = nn.ModuleList(
            ResidualBlock(out, kernel, config.dilations)
            for out in widths[1:]
            for kernel in config.resblock_kernels
        )
        self.conv_post = Conv(widths[-1], 1, ENDS_KERNEL, bias=False)

    def forward(self, z: Tensor, har: Tensor, g: Tensor) -> Tensor:
        """The waveform `[B, T·hop]` of latents `z [B, T, C]` and their source `har [B, T·hop, 1]`.

        `g [B, 1, G]`: the speaker's row.
        """
        x = self.conv_pre(z).add_(self.cond(g))
        for stage, (up, noise) in enumerate(zip(self.ups, self.noise_convs, strict=True)):
            x = up(F.leaky_relu_(x, SLOPE)).add_(noise(har))
            x = self._refined(x, stage)
        return self.conv_post(F.leaky_relu_(x, LAST_SLOPE))[..., 0].tanh_()

    def _refined(self, x: Tensor, stage: int) -> Tensor:
        """The mean of a stage's residual blocks."""
        count = len(self.resblocks) // len(self.ups)
        activated = F.leaky_relu(x, SLOPE)
        first, *others = self.resblocks[stage * count : (stage + 1) * count]
        total = first(x, activated)
        for block in others:
            total += block(x, activated)
        return total.div_(count)

    def chunked(self, z: Tensor, har: Tensor, g: Tensor, frames: int, context: int | None = None) -> Tensor:
        """The same in pieces of `frames`; `har` is of the whole, so that its phase is.

        `context`: frames computed with each piece, before it and behind; by default as many as it sees, which
        is exact.
        """
        context = self.context if context is None else context
        sources = har.unflatten(1, (-1, self.hop))
        waves = []
        for piece in chunks(z.shape[1], frames, (context, context)):
            read = slice(piece.first, piece.last)
            wave = self(z[:, read], sources[:, read].flatten(1, 2), g)
            waves.append(wave.unflatten(1, (-1, self.hop))[:, piece.kept])
        return torch.cat(waves, dim=1).flatten(1)
