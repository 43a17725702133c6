"""Speaker encoder (ECAPA-TDNN, arXiv:2005.07143): the log-mel of a recording to one vector of a voice.

    mel ─▶ convolution ─▶ 3 SE-Res2Net blocks ─▶ sum of views (1x1) ─▶ attentive statistics ─▶ linear

Time is pooled twice: each block weighs its channels by their means, and at the end every channel has weights
over time of its own, by which its mean and deviation are taken. Convolutions keep the length: the ends of a
recording are reflected.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subjects.qwen3_tts.config import SpeakerConfig

LEAST_VARIANCE = 1e-12


class TimeDelay(nn.Module):
    """Convolution over time, then ReLU: `[B, C, T] -> [B, C', T]`."""

    def __init__(self, channels: int, out: int, kernel: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(channels, out, kernel, dilation=dilation)
        reach = dilation * (kernel - 1)
        self.ends = reach // 2, reach - reach // 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, self.ends, mode="reflect") if any(self.ends) else x).relu_()


class Res2Net(nn.Module):
    """Convolutions of growing reach in one layer: of `scale` parts each is added the result before it."""

    def __init__(self, channels: int, scale: int, kernel: int, dilation: int):
        super().__init__()
        width = channels // scale
        self.blocks = nn.ModuleList(TimeDelay(width, width, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        first, *parts = x.chunk(len(self.blocks) + 1, dim=1)
        results = [first]
        for block, part in zip(self.blocks, parts, strict=True):
            results.append(block(part + results[-1] if len(results) > 1 else part))
        return torch.cat(results, dim=1)


class SqueezeExcitation(nn.Module):
    """A weight for each channel, from the means of all."""

    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, bottleneck, 1)
        self.conv2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(-1, keepdim=True)
        return x * self.conv2(self.conv1(means).relu_()).sigmoid_()


class SERes2Net(nn.Module):
    """Res2Net between two 1x1 convolutions, its channels weighed, added to the input `[B, C, T]`."""

    def __init__(self, config: SpeakerConfig, channels: int, kernel: int, dilation: int):
        super().__init__()
        self.tdnn1 = TimeDelay(channels, channels)
        self.res2net_block = Res2Net(channels, config.enc_res2net_scale, kernel, dilation)
        self.tdnn2 = TimeDelay(channels, channels)
        self.se_block = SqueezeExcitation(channels, config.enc_se_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.se_block(self.tdnn2(self.res2net_block(self.tdnn1(x)))) + x


class AttentiveStatistics(nn.Module):
    """Means and deviations `[B, 2·C, 1]` of `x [B, C, T]` over time, weighed by attention.

    It attends to each place beside the plain mean and deviation.
    """

    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        self.tdnn = TimeDelay(3 * channels, bottleneck)
        self.conv = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        plain = _statistics(x, torch.full_like(x[:1, :1], 1 / x.shape[-1]))
        views = torch.cat((x, plain.expand(-1, -1, x.shape[-1])), dim=1)
        return _statistics(x, self.conv(self.tdnn(views).tanh_()).softmax(-1))


def _statistics(x: Tensor, weights: Tensor) -> Tensor:
    """Mean and standard deviation of `x [B, C, T]` under weights over time that sum to 1: `[B, 2·C, 1]`."""
    mean = (x * weights).sum(-1, keepdim=True)
    variance = ((x - mean).square_() * weights).sum(-1, keepdim=True)
    return torch.cat((mean, variance.clamp_(min=LEAST_VARIANCE).sqrt_()), dim=1)


class SpeakerEncoder(nn.Module):
    """Weights as published below `speaker_encoder.`."""

    def __init__(self, config: SpeakerConfig):
        super().__init__()
        layers = list(zip(config.enc_channels, config.enc_kernel_sizes, config.enc_dilations, strict=True))
        first, *middle, last = layers
        channels = config.enc_channels[-1]
        self.blocks = nn.ModuleList([TimeDelay(config.mel_dim, *first)])
        self.blocks.extend(SERes2Net(config, *layer) for layer in middle)
        self.mfa = TimeDelay(channels, *last)
        self.asp = AttentiveStatistics(channels, config.enc_attention_channels)
        self.fc = nn.Conv1d(2 * channels, config.enc_dim, 1)

    def forward(self, mel: Tensor) -> Tensor:
        """Vectors `[B, H]` of voices, from log-mels `mel [B, T, 128]` of one length (see `mel.log_mel`).

        Raises RuntimeError for a recording that is too short to be reflected: 4 frames or fewer.
        """
        x = self.blocks[0](mel.transpose(1, 2))
        views = []
        for block in self.blocks[1:]:
            x = block(x)
            views.append(x)
        return self.fc(self.asp(self.mfa(torch.cat(views, dim=1))))[..., 0]
