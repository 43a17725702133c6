"""The dimensions of Qwen3-TTS's networks, as the published `config.json` files spell them.

A file may come from anybody, so every field has a range. No torch import here.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from harness.nn.config import Layers, Schema, StackConfig, Width

Groups = Annotated[int, Meta(ge=2, le=64)]  # codes of a frame
Vocabulary = Annotated[int, Meta(ge=1, le=2**20)]
Rate = Annotated[int, Meta(ge=1, le=64)]  # of upsampling, by one convolution
Channels = Annotated[int, Meta(ge=1, le=16_384)]

SAMPLE_RATE = 24_000
FRAME_SAMPLES = 1_920
FRAME_RATE = SAMPLE_RATE / FRAME_SAMPLES  # 12.5 Hz


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


class DecoderConfig(Schema, frozen=True, kw_only=True):
    """Decoder12Hz: 16 codes a frame to 1,920 samples.

    `hidden_size` to `rope_theta`: the transformer, in which a frame sees itself and the `sliding_window` - 1
    before. `latent_dim`: channels between it and the convolutions, whose first has `decoder_dim`.
    """

    codebook_dim: Channels
    codebook_size: Vocabulary
    num_quantizers: Groups
    latent_dim: Channels
    hidden_size: Width
    intermediate_size: Annotated[int, Meta(ge=1, le=262_144)]
    num_hidden_layers: Layers
    num_attention_heads: Annotated[int, Meta(ge=1, le=512)]
    num_key_value_heads: Annotated[int, Meta(ge=1, le=512)]
    head_dim: Annotated[int, Meta(ge=2, le=512, multiple_of=2)]
    sliding_window: Annotated[int, Meta(ge=1, le=65_536)]
    rms_norm_eps: Annotated[float, Meta(ge=1e-12, le=0.01)] = 1e-5
    rope_theta: Annotated[float, Meta(ge=1, le=1e12)] = 10_000.0
    decoder_dim: Channels
    upsampling_ratios: Annotated[list[Rate], Meta(min_length=1, max_length=8)]
    upsample_rates: Annotated[list[Rate], Meta(min_length=1, max_length=8)]

    def contradiction(self) -> str | None:
        if self.num_attention_heads % self.num_key_value_heads:
            return (
                f"num_attention_heads: {self.num_attention_heads} is no multiple of num_key_value_heads, "
                f"{self.num_key_value_heads}"
            )
        if self.decoder_dim % 2 ** len(self.upsample_rates):
            return (
                f"decoder_dim: {self.decoder_dim} cannot be halved {len(self.upsample_rates)} times "
                "(upsample_rates)"
            )
        return None


class SpeakerConfig(Schema, frozen=True, kw_only=True):
    """The speaker encoder of Base models (ECAPA-TDNN): a log-mel to one row of the talker's width, `enc_dim`.

    The lists are of its five time-delay layers: a convolution, three SE-Res2Net blocks, and the sum of these.
    """

    enc_dim: Width
    sample_rate: Annotated[int, Meta(ge=1_000, le=192_000)] = SAMPLE_RATE
    mel_dim: Channels = 128
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
