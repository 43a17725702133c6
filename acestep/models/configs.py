"""Model configurations as the published `config.json` files spell them.

Only what shapes the computation is read; keys this engine has no use for are ignored, so that files
written by other tools load. Widths follow one convention throughout: `hidden_size` is the residual
stream, `num_attention_heads * head_dim` the attention width (the two differ in the XL family). No torch
import here: what a variant can do is known before paying for one.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from harness.nn.config import BlockConfig

SINUSOID_SIZE = 256  # of the embedding of a time


class DiTConfig(BlockConfig, frozen=True, kw_only=True):
    """The file that holds DiT, condition encoder, audio tokenizer and detokenizer.

    What variant it is, is said here and nowhere else: `is_turbo` for one distilled to few steps without
    guidance, `is_xl` for the larger family.
    """

    MODEL_TYPE: ClassVar[str] = "acestep"

    model_type: str
    num_hidden_layers: int
    layer_types: list[Literal["sliding_attention", "full_attention"]]
    sliding_window: int
    is_turbo: bool = False
    in_channels: int = 192
    patch_size: int = 2
    audio_acoustic_hidden_dim: int = 64
    text_hidden_dim: int = 1024
    timbre_fix_frame: int = 750
    num_lyric_encoder_hidden_layers: int = 8
    num_timbre_encoder_hidden_layers: int = 4
    num_attention_pooler_hidden_layers: int = 2
    pool_window_size: int = 5
    fsq_dim: int = 2048
    fsq_input_levels: list[int]
    encoder_hidden_size: int | None = None
    encoder_intermediate_size: int | None = None
    encoder_num_attention_heads: int | None = None
    encoder_num_key_value_heads: int | None = None

    def __post_init__(self) -> None:
        named, layers = len(self.layer_types), self.num_hidden_layers
        if named != layers:
            raise ValueError(f"layer_types names {named} layers, num_hidden_layers says {layers}")

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


class VAEConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Oobleck: 48 kHz stereo to 25 Hz latents and back."""

    encoder_hidden_size: int  # twice the latent channels, and in published models the first width
    encoder_channels: int | None = None  # the encoder's first width where a made-up model sets it apart
    decoder_channels: int
    decoder_input_channels: int
    channel_multiples: list[int]
    downsampling_ratios: list[int]
    audio_channels: int
    sampling_rate: int

    @property
    def hop(self) -> int:
        """Samples per latent frame (1920)."""
        hop = 1
        for ratio in self.downsampling_ratios:
            hop *= ratio
        return hop
