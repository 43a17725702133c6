"""Oobleck: 48 kHz stereo <-> 25 Hz latents of 64 channels.

Convolutions and Snake activations only, so either way an output depends on a bounded stretch of the
input (`halo`, in latent frames), and tiles that overlap by it give exactly what one pass would.
Decoding costs 4.87 GFLOP per latent frame, 122 GFLOP per second of audio.

Checkpoints store convolutions weight-normalised (direction v, length g) and Snake's parameters as
logarithms. Neither changes after training, so `fold` computes what the convolutions really use, once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from acestep.models.configs import VAEConfig
from harness.nn.folded import wide
from harness.nn.snake import LOGS, Snake, unlogged

DILATIONS = (1, 3, 9)


class ResidualUnit(nn.Module):
    def __init__(self, channels: int, dilation: int):
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv1 = nn.Conv1d(channels, channels, 7, dilation=dilation, padding=3 * dilation)
        self.snake2 = Snake(channels)
        self.conv2 = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.snake2(self.conv1(self.snake1(x)))) + x


class DecoderBlock(nn.Module):
    """Upsample by `stride`, then refine: `[B, C, n] -> [B, C', stride·n]`."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv_t1 = nn.ConvTranspose1d(channels, out, 2 * stride, stride, padding=math.ceil(stride / 2))
        self.res_unit1, self.res_unit2, self.res_unit3 = (ResidualUnit(out, d) for d in DILATIONS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_t1(self.snake1(x))
        return self.res_unit3(self.res_unit2(self.res_unit1(x)))


class EncoderBlock(nn.Module):
    """Refine, then downsample by `stride`."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.res_unit1, self.res_unit2, self.res_unit3 = (ResidualUnit(channels, d) for d in DILATIONS)
        self.snake1 = Snake(channels)
        self.conv1 = nn.Conv1d(channels, out, 2 * stride, stride, padding=math.ceil(stride / 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_unit3(self.res_unit2(self.res_unit1(x)))
        return self.conv1(self.snake1(x))


class OobleckDecoder(nn.Module):
    """Latents `[B, 64, T]` to waveform `[B, 2, 1920·T]`."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        strides = config.downsampling_ratios[::-1]
        multiples = [1, *config.channel_multiples]
        widths = [config.decoder_channels * m for m in multiples[::-1]]
        self.conv1 = nn.Conv1d(config.decoder_input_channels, widths[0], 7, padding=3)
        self.block = nn.ModuleList(
            DecoderBlock(a, b, s) for a, b, s in zip(widths, widths[1:], strides, strict=False)
        )
        self.snake1 = Snake(widths[-1])
        self.conv2 = nn.Conv1d(widths[-1], config.audio_channels, 7, padding=3, bias=False)
        self.halo = _decoder_halo(strides)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.conv1(latents)
        for block in self.block:
            x = block(x)
        return self.conv2(self.snake1(x))


class OobleckEncoder(nn.Module):
    """Waveform `[B, 2, N]` to `[B, 128, N // 1920]`: 64 means, then 64 scales."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        first = config.encoder_channels or config.encoder_hidden_size
        widths = [first * m for m in (1, *config.channel_multiples)]
        self.conv1 = nn.Conv1d(config.audio_channels, widths[0], 7, padding=3)
        self.block = nn.ModuleList(
            EncoderBlock(a, b, s)
            for a, b, s in zip(widths, widths[1:], config.downsampling_ratios, strict=False)
        )
        self.snake1 = Snake(widths[-1])
        self.conv2 = nn.Conv1d(widths[-1], config.encoder_hidden_size, 3, padding=1)
        self.halo = _encoder_halo(config.downsampling_ratios)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.conv1(audio)
        for block in self.block:
            x = block(x)
        return self.conv2(self.snake1(x))


class Oobleck(nn.Module):
    """Encoder and decoder as published under `vae/`, in folded form (see `fold`)."""

    def __init__(self, config: VAEConfig):
        super().__init__()
        self.encoder = OobleckEncoder(config)
        self.decoder = OobleckDecoder(config)

    def encode(self, audio: Tensor) -> Tensor:
        """Mean latents `[B, 64, N // 1920]`; the published model samples around it."""
        return self.encoder(audio).chunk(2, dim=1)[0]


def published_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes the checkpoint file holds for a folded `model`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        shape = tuple(parameter.shape)
        if leaf == "weight":
            shapes[f"{owner}.weight_g"] = (shape[0], 1, 1)
            shapes[f"{owner}.weight_v"] = shape
        else:
            shapes[f"{owner}.{LOGS.get(leaf, leaf)}"] = shape
    return shapes


def fold(name: str, read: Callable[[str], Tensor]) -> Tensor:
    """The folded parameter `name`, computed in fp32 or better from what `read` finds in the checkpoint.

    Weight normalisation is `g·v/|v|` with the norm over all axes but the first: the output channel
    of a convolution, the *input* channel of a transposed one.
    """
    owner, _, leaf = name.rpartition(".")
    if leaf == "weight":
        v, g = wide(read(f"{owner}.weight_v")), wide(read(f"{owner}.weight_g"))
        return v * (g / v.flatten(1).norm(dim=1).view(-1, 1, 1))
    if leaf in LOGS:
        return unlogged(leaf, read(f"{owner}.{LOGS[leaf]}"))
    return read(name)


def _decoder_halo(strides: list[int]) -> int:
    """Latent frames beyond a stretch that its samples depend on, on the wider side.

    Walks the index interval [low, high] of one frame's samples back through every layer: a
    convolution of kernel 7 and dilation d widens it by 3d, a transposed one of kernel 2s, stride s
    and padding p maps output o to inputs ceil((o + p - 2s + 1)/s) .. floor((o + p)/s).
    """
    low, high = 0, math.prod(strides) - 1
    low, high = low - 3, high + 3
    for stride in reversed(strides):
        reach = 3 * sum(DILATIONS)
        padding = math.ceil(stride / 2)
        low = math.ceil((low - reach + padding - 2 * stride + 1) / stride)
        high = math.floor((high + reach + padding) / stride)
    return max(-(low - 3), high + 3)


def _encoder_halo(strides: list[int]) -> int:
    """Latent frames beyond a stretch whose samples it depends on, on the wider side.

    The same walk from one frame to its samples [low, high]: a convolution of kernel 2s, stride s and
    padding p maps output o to inputs s·o - p .. s·o - p + 2s - 1.
    """
    reach = 3 * sum(DILATIONS)
    low, high = -1, 1
    for stride in reversed(strides):
        padding = math.ceil(stride / 2)
        low = stride * low - padding - reach
        high = stride * high - padding + 2 * stride - 1 + reach
    hop = math.prod(strides)
    return max(math.ceil((3 - low) / hop), math.ceil((high + 3 - (hop - 1)) / hop))
