"""Model configurations as the published `config.json` files spell them.

Only what shapes the computation is read; keys this engine has no use for are ignored, so that files
written by other tools load. Widths follow one convention throughout: `hidden_size` is the residual
stream, `num_attention_heads * head_dim` the attention width (the two differ in the XL family).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from acestep.errors import CheckpointError


class BlockConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Qwen3-style block every transformer here is made of."""

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 1_000_000.0


class Qwen3Config(BlockConfig, frozen=True, kw_only=True):
    """Text encoder and 5 Hz language model: a causal stack over a token table (head tied to it)."""

    model_type: str
    num_hidden_layers: int
    vocab_size: int


class DiTConfig(BlockConfig, frozen=True, kw_only=True):
    """The file that holds DiT, condition encoder, audio tokenizer and detokenizer."""

    model_type: str
    num_hidden_layers: int
    layer_types: list[str]
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

    encoder_hidden_size: int
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


Config = TypeVar("Config", Qwen3Config, DiTConfig, VAEConfig)


def parse_config(data: dict[str, Any], kind: type[Config], where: str) -> Config:
    """Read `data` (a decoded config.json) as `kind`.

    Raises CheckpointError naming the file and the key that is missing or of the wrong type, or the
    model type when the folder holds another architecture.
    """
    expected = {Qwen3Config: "qwen3", DiTConfig: "acestep"}.get(kind)
    found = data.get("model_type")
    if expected and found != expected:
        raise CheckpointError(f"{where}: model_type is {found!r}, expected {expected!r}; wrong folder?")
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{where}: {error}") from None
