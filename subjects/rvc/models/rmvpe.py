"""RMVPE (arXiv:2306.15412): the pitch of a voice, among other sounds, of its log-mel.

    mel [T, 128] ─▶ U-Net of 5 levels ─▶ convolution, 3 channels ─▶ bidirectional GRU ─▶ 360 bins of pitch

Frames are a picture's rows: the U-Net halves time and mel at each level, so that T is a multiple of 32
(`RMVPE.grid`). All but the GRU sees a bounded stretch around a frame, and can be computed piece by piece.

A file holds convolutions without bias and the batch norms behind them; here each pair is one convolution
with bias (`harness.nn.folded`). `folded=False` leaves the norms in, with the file's own names.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subjects.rvc.chunks import chunks
from subjects.rvc.config import RMVPEConfig
from subjects.rvc.models.conv2d import POOL, BatchNorm, Conv, Rows, Scaling, convs, seen


class Block(nn.Module):
    """Two convolutions and a shortcut: `[B, C, T, M] -> [B, C', T, M]`."""

    def __init__(self, channels: int, out: int, folded: bool):
        super().__init__()
        self.conv = convs(folded, (channels, out), (out, out))
        self.shortcut = Conv(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).add_(self.shortcut(x) if self.shortcut else x)


def blocks(count: int, channels: int, out: int, folded: bool) -> nn.Sequential:
    """Blocks of which the first changes the number of channels."""
    return nn.Sequential(*(Block(channels if place == 0 else out, out, folded) for place in range(count)))


class Level(nn.Module):
    """Blocks of one resolution."""

    def __init__(self, config: RMVPEConfig, channels: int, out: int, folded: bool):
        super().__init__()
        self.conv = blocks(config.blocks, channels, out, folded)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Encoder(nn.Module):
    """Levels of which each halves time and mel behind it. Its result before that is the decoder's, too."""

    def __init__(self, config: RMVPEConfig, folded: bool):
        super().__init__()
        widths = [1, *_widths(config)]
        self.bn = Scaling(1) if folded else BatchNorm(1)
        self.layers = nn.ModuleList(Level(config, a, b, folded) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        x = self.bn(x)
        for level in self.layers:
            skips.append(level(x))
            x = F.avg_pool2d(skips[-1], POOL)
        return x, skips


class Intermediate(nn.Module):
    """Levels at the lowest resolution."""

    def __init__(self, config: RMVPEConfig, folded: bool):
        super().__init__()
        *_, narrow = _widths(config)
        width = 2 * narrow
        self.layers = nn.ModuleList(
            Level(config, narrow if place == 0 else width, width, folded)
            for place in range(config.intermediate)
        )

    def forward(self, x: Tensor) -> Tensor:
        for level in self.layers:
            x = level(x)
        return x


class DecoderLevel(nn.Module):
    """Twice the resolution, half the channels; refined beside what the encoder had there."""

    def __init__(self, config: RMVPEConfig, channels: int, folded: bool):
        super().__init__()
        out = channels // POOL
        self.conv1 = convs(folded, (channels, out), up=True)
        self.conv2 = blocks(config.blocks, 2 * out, out, folded)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv2(torch.cat((self.conv1(x), skip), dim=1))


class Decoder(nn.Module):
    def __init__(self, config: RMVPEConfig, folded: bool):
        super().__init__()
        widths = reversed(_widths(config))
        self.layers = nn.ModuleList(DecoderLevel(config, 2 * width, folded) for width in widths)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for level in self.layers:
            x = level(x, skips.pop())
        return x


def _widths(config: RMVPEConfig) -> list[int]:
    """Channels of the encoder's levels."""
    return [config.channels * 2**level for level in range(config.levels)]


class UNet(nn.Module):
    """`[B, 1, T, M] -> [B, C, T, M]`."""

    def __init__(self, config: RMVPEConfig, folded: bool):
        super().__init__()
        self.encoder = Encoder(config, folded)
        self.intermediate = Intermediate(config, folded)
        self.decoder = Decoder(config, folded)

    def forward(self, x: Tensor) -> Tensor:
        x, skips = self.encoder(x)
        return self.decoder(self.intermediate(x), skips)

    def field(self, rows: Rows) -> Rows:
        """First and last row of the input that `rows` of the output depend on, beyond its ends as well."""
        skipped = []
        for level in reversed(self.decoder.layers):
            assert isinstance(level, DecoderLevel)
            rows = seen(level.conv2, rows)
            skipped.append(rows)
            rows = seen(level.conv1, rows)
        rows = seen(self.intermediate, rows)
        for level in reversed(self.encoder.layers):
            first, last = skipped.pop()
            rows = seen(level, (min(POOL * rows[0], first), max(POOL * rows[1] + 1, last)))
        return rows


class BiGRU(nn.Module):
    """One layer, both ways: `[B, T, I] -> [B, T, 2·H]`."""

    def __init__(self, inputs: int, hidden: int):
        super().__init__()
        self.gru = nn.GRU(inputs, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(x)[0]


class RMVPE(nn.Module):
    """Weights as published in `rmvpe.pt`, folded or not."""

    def __init__(self, config: RMVPEConfig, folded: bool = True):
        super().__init__()
        self.grid = POOL**config.levels  # frames, of which a pass has a multiple
        self.unet = UNet(config, folded)
        self.cnn = Conv(config.channels, config.out_channels)
        width = config.out_channels * config.mels
        self.fc = nn.ModuleList([BiGRU(width, config.gru), nn.Linear(2 * config.gru, config.bins)])

    def forward(self, mel: Tensor) -> Tensor:
        """Salience `[B, T, 360]`, 0 to 1, of log-mels `mel [B, T, 128]` (see `mel.log_mel`, `mel.padded`)."""
        return self.salience(self.features(mel))

    def features(self, mel: Tensor) -> Tensor:
        """What the U-Net makes of `mel [B, T, 128]`: `[B, T, 384]`, 3 channels one behind the other.

        Raises ValueError for frames that are no multiple of `grid`.
        """
        if mel.shape[1] % self.grid:
            raise ValueError(f"{mel.shape[1]} frames are not a multiple of {self.grid}; pad them")
        # Channels last: of one channel that is the same memory, but convolutions go by the strides.
        picture = mel[..., None].permute(0, 3, 1, 2)
        return self.cnn(self.unet(picture)).transpose(1, 2).flatten(2)

    def salience(self, features: Tensor) -> Tensor:
        """Salience `[B, T, 360]` of `features [B, T, 384]` of a whole recording: the GRU sees all of it."""
        gru, linear = self.fc
        return linear(gru(features)).sigmoid_()

    def features_chunked(self, mel: Tensor, frames: int, context: tuple[int, int] | None = None) -> Tensor:
        """`features` in pieces of `frames` frames, a multiple of `grid`: the same values.

        `context`: frames read before and behind each piece, by default as many as it sees. Fewer are quicker
        and not exact. Raises UsageError for `frames` off the grid.
        """
        context = self.context if context is None else context
        pieces = chunks(mel.shape[1], frames, context, self.grid)
        return torch.cat([self.features(mel[:, p.first : p.last])[:, p.kept] for p in pieces], dim=1)

    def field(self, first: int, last: int) -> Rows:
        """First and last frame of a log-mel that features of frames `first` to `last` depend on."""
        return self.unet.field(seen(self.cnn, (first, last)))

    @property
    def context(self) -> tuple[int, int]:
        """Frames before and behind a piece on the grid that its features depend on, in multiples of it."""
        first, last = self.field(0, self.grid - 1)
        return -(first // self.grid) * self.grid, last // self.grid * self.grid
