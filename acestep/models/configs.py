"""Model configurations as the published `config.json` files spell them.

Only what shapes the computation is read; keys this engine has no use for are ignored, so that files
written by other tools load. Widths follow one convention throughout: `hidden_size` is the residual
stream, `num_attention_heads * head_dim` the attention width (the two differ in the XL family). No torch
import here: what a variant can do is known before paying for one.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from acestep.models.rates import FRAME_SAMPLES
from harness.nn.config import BlockConfig, Heads, Layers, Schema, Width

SINUSOID_SIZE = 256  # of the embedding of a time

Channels = Annotated[int, Meta(ge=1, le=1024)]
Stored = Literal["bfloat16", "float16", "float32", "float64"]


class DiTConfig(BlockConfig, frozen=True, kw_only=True):
    """The file that holds DiT, condition encoder, audio tokenizer and detokenizer.

    What variant it is, is said here and nowhere else: `is_turbo` for one distilled to few steps without
    guidance, `is_xl` for the larger family. Fields with one value are what the engine around the networks is
    built for.
    """

    MODEL_TYPE: ClassVar[str] = "acestep"

    model_type: Literal["acestep"]
    torch_dtype: Stored | None = None
    dtype: Stored | None = None  # as later files spell it
    num_hidden_layers: Layers
    layer_types: Annotated[
        list[Literal["sliding_attention", "full_attention"]], Meta(min_length=1, max_length=128)
    ]
    sliding_window: Width
    is_turbo: bool = False
    in_channels: Literal[192] = 192
    patch_size: Literal[2] = 2
    audio_acoustic_hidden_dim: Literal[64] = 64
    text_hidden_dim: Width = 1024
    timbre_fix_frame: Annotated[int, Meta(ge=1, le=15_000)] = 750
    num_lyric_encoder_hidden_layers: Layers = 8
    num_timbre_encoder_hidden_layers: Layers = 4
    num_attention_pooler_hidden_layers: Layers = 2
    pool_window_size: Literal[5] = 5
    fsq_dim: Width = 2048
    fsq_input_levels: Annotated[list[Annotated[int, Meta(ge=2, le=64)]], Meta(min_length=1, max_length=16)]
    encoder_hidden_size: Width | None = None
    encoder_intermediate_size: Annotated[int, Meta(ge=1, le=262_144)] | None = None
    encoder_num_attention_heads: Heads | None = None
    encoder_num_key_value_heads: Heads | None = None

    def contradiction(self) -> str | None:
        named, layers = len(self.layer_types), self.num_hidden_layers
        if named != layers:
            return f"layer_types names {named} layers, num_hidden_layers says {layers}"
        if reason := super().contradiction():
            return reason
        reason = self.encoder.contradiction()
        return f"of the encoder, {reason}" if reason else None

    @property
    def stored_dtype(self) -> str:
        """The dtype of the file's tensors, as the file declares it."""
        return self.torch_dtype or self.dtype or "bfloat16"

    @property
    def is_xl(self) -> bool:
        """Whether the DiT is wider than the encoders around it: so the XL family is told from the 2B."""
        return self.encoder.hidden_size != self.hidden_size

    @property
    def encoder(self) -> BlockConfig:
        """Block of the encoders and the detokenizer: the DiT's own unless the file sets it apart."""
        return BlockConfig(
            hidden_size=self.encoder_hidden_size or self.hidden_size,
            intermediate_size=self.encoder_intermediate_size or self.intermediate_size,
            num_attention_heads=self.encoder_num_attention_heads or self.num_attention_heads,
            num_key_value_heads=self.encoder_num_key_value_heads or self.num_key_value_heads,
            head_dim=self.head_dim,
            rms_norm_eps=self.rms_norm_eps,
            rope_theta=self.rope_theta,
        )

    @property
    def weights(self) -> int:
        """How many the matrices of all blocks have: less than the file holds."""
        encoders = self.num_lyric_encoder_hidden_layers + self.num_timbre_encoder_hidden_layers
        encoders += 2 * self.num_attention_pooler_hidden_layers  # and as many in the detokenizer
        layer = self.block_weights + self.attention_weights  # which has cross-attention as well
        return self.num_hidden_layers * layer + encoders * self.encoder.block_weights


class VAEConfig(Schema, frozen=True, kw_only=True):
    """Oobleck: 48 kHz stereo to 25 Hz latents and back."""

    # Twice the latent channels, and in published models the encoder's first width.
    encoder_hidden_size: Literal[128]
    encoder_channels: Channels | None = None  # the encoder's first width where a made-up model sets it apart
    decoder_channels: Channels
    decoder_input_channels: Literal[64]
    channel_multiples: Annotated[list[Annotated[int, Meta(ge=1, le=64)]], Meta(min_length=1, max_length=8)]
    downsampling_ratios: Annotated[
        list[Annotated[int, Meta(ge=2, le=64, multiple_of=2)]], Meta(min_length=1, max_length=8)
    ]
    audio_channels: Literal[2]
    sampling_rate: Literal[48_000]

    def contradiction(self) -> str | None:
        multiples, ratios = len(self.channel_multiples), len(self.downsampling_ratios)
        if multiples != ratios:
            return f"channel_multiples has {multiples} values, downsampling_ratios has {ratios}"
        if self.hop != FRAME_SAMPLES:
            return f"downsampling_ratios: their product is {self.hop}, expected {FRAME_SAMPLES}"
        return None

    @property
    def hop(self) -> int:
        """Samples per latent frame (1920)."""
        return prod(self.downsampling_ratios)

    @property
    def weights(self) -> int:
        """How many the convolutions of all blocks have: less than the file holds."""
        weights = 0
        for first in (self.decoder_channels, self.encoder_channels or self.encoder_hidden_size):
            widths = [first * multiple for multiple in (1, *self.channel_multiples)]
            for (narrow, wide), ratio in zip(pairwise(widths), self.downsampling_ratios, strict=True):
                weights += 2 * ratio * narrow * wide + 3 * 8 * narrow**2
        return weights
