"""The dimensions of Qwen3-TTS's networks, as the published `config.json` files spell them.

A file may come from anybody, so every field has a range. No torch import here.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta, field

from harness.nn.config import Schema, StackConfig, Width

Groups = Annotated[int, Meta(ge=2, le=64)]  # codes of a frame
Vocabulary = Annotated[int, Meta(ge=1, le=2**20)]
Rate = Annotated[int, Meta(ge=1, le=64)]  # of upsampling, by one convolution
Channels = Annotated[int, Meta(ge=1, le=16_384)]

SAMPLE_RATE = 24_000
FRAME_SAMPLES = 1_920
FRAME_RATE = SAMPLE_RATE / FRAME_SAMPLES  # 12.5 Hz
MEL_BANDS = 128  # of the log-mel of a voice
MOST_REACH = 16  # frames beside one that a layer sees, half of them reflected: a recording has 9 or more


class TalkerConfig(StackConfig, frozen=True, kw_only=True):
    """The talker: a causal stack over rows that are sums of a text side and a codec side.

    `vocab_size`: of the first code and its control tokens. `rope_scaling` is of no use: its three axes carry
    the same positions, which is plain RoPE.
    """

    vocab_size: Vocabulary
    num_code_groups: Groups
    text_vocab_size: Vocabulary
    text_hidden_size: Width


class CodePredictorConfig(StackConfig, frozen=True, kw_only=True):
    """The code predictor: a causal stack over the 16 positions of a frame, with a head for each code but the
    first."""

    vocab_size: Vocabulary
    num_code_groups: Groups


class DecoderConfig(StackConfig, frozen=True, kw_only=True):
    """Decoder12Hz: 16 codes a frame to 1,920 samples.

    The block's fields and their number are of the transformer, in which a frame sees itself and the
    `sliding_window` - 1 before. `codebook_dim`: of a frame's sum of codebook rows, which are half as wide
    before they are projected. `latent_dim`: channels from there to the convolutions, whose first has
    `decoder_dim`.
    """

    codebook_dim: Annotated[int, Meta(ge=2, le=16_384, multiple_of=2)]
    codebook_size: Vocabulary
    num_quantizers: Groups
    latent_dim: Channels
    sliding_window: Annotated[int, Meta(ge=2, le=65_536)]
    rms_norm_eps: Annotated[float, Meta(ge=1e-12, le=0.01)] = 1e-5
    rope_theta: Annotated[float, Meta(ge=1, le=1e12)] = 10_000.0
    decoder_dim: Channels
    upsampling_ratios: Annotated[list[Rate], Meta(min_length=1, max_length=8)]
    upsample_rates: Annotated[list[Rate], Meta(min_length=1, max_length=8)]

    def contradiction(self) -> str | None:
        if self.decoder_dim % 2 ** len(self.upsample_rates):
            return (
                f"decoder_dim: {self.decoder_dim} cannot be halved {len(self.upsample_rates)} times "
                "(upsample_rates)"
            )
        return super().contradiction()

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.upsampling_ratios) * math.prod(self.upsample_rates)


class SpeakerConfig(Schema, frozen=True, kw_only=True):
    """The speaker encoder of Base models (ECAPA-TDNN): a log-mel to one row of the talker's width, `enc_dim`.

    The lists are of its five time-delay layers: a convolution, three SE-Res2Net blocks, and the sum of these.
    """

    enc_dim: Width
    sample_rate: Annotated[int, Meta(ge=SAMPLE_RATE, le=SAMPLE_RATE)] = SAMPLE_RATE  # recordings are read at
    mel_dim: Annotated[int, Meta(ge=MEL_BANDS, le=MEL_BANDS)] = MEL_BANDS
    enc_channels: Annotated[list[Channels], Meta(min_length=5, max_length=5)] = field(
        default_factory=lambda: [512, 512, 512, 512, 1536]
    )
    enc_kernel_sizes: Annotated[list[Rate], Meta(min_length=5, max_length=5)] = field(
        default_factory=lambda: [5, 3, 3, 3, 1]
    )
    enc_dilations: Annotated[list[Rate], Meta(min_length=5, max_length=5)] = field(
        default_factory=lambda: [1, 2, 3, 4, 1]
    )
    enc_attention_channels: Channels = 128
    enc_res2net_scale: Rate = 8
    enc_se_channels: Channels = 128

    def contradiction(self) -> str | None:
        first, *blocks, views = self.enc_channels
        if any(channels != first for channels in blocks) or first % self.enc_res2net_scale:
            return (
                f"enc_channels: the first four, {self.enc_channels[:-1]}, must be one multiple of "
                f"enc_res2net_scale, {self.enc_res2net_scale}"
            )
        if views != sum(blocks):
            return f"enc_channels: the last, {views}, is not the sum of the three before, {sum(blocks)}"
        layers = zip(self.enc_kernel_sizes, self.enc_dilations, strict=True)
        if (reach := max((kernel - 1) * dilation for kernel, dilation in layers)) > MOST_REACH:
            return f"enc_kernel_sizes, enc_dilations: {reach} frames beside one; at most {MOST_REACH}"
        return None
