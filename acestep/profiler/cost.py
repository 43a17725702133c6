"""FLOP and bytes of every network, as closed forms of its configuration. No torch import here.

One block carries nearly all of it: with weights 2HA + 2HK + 3HI a token costs 2 FLOP per weight, and 4A for
every key its queries see. Counted is what a result needs, in the order this engine computes it: conditions
once per generation, of a sliding layer only the keys in the window, and of tiles only what is kept. A
multiply-add is 2 FLOP; norms, activations and softmax are left out, well under 1 % of any part.

Widths: H hidden, A attention (heads x head size), K key/value, I intermediate, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from acestep.models.configs import BlockConfig, DiTConfig, Qwen3Config, VAEConfig, parse_config, read_json
from acestep.sources import SYNTHETIC, VAE, dit_config
from acestep.synthetic_configs import CONFIGS


@dataclass(frozen=True, slots=True)
class Networks:
    """The configurations a run's cost follows from; `lm` and `dit` are None where they are not loaded."""

    dit: DiTConfig | None
    vae: VAEConfig
    lm: Qwen3Config | None
    dtype_bytes: int
    dit_bytes: int  # of a weight of the DiT's layers


def networks(
    source: str, dit: str | None, lm: str | None, dtype_bytes: int, *, quantized: bool = False
) -> Networks:
    """The networks in folders `dit` and `lm` of a source. Raises CheckpointError for a bad config.json.

    `quantized`: the matrices of the DiT's layers are a byte per weight.
    """
    return Networks(
        dit_config(source, dit) if dit else None,
        _config(source, VAE, VAEConfig),
        _config(source, lm, Qwen3Config) if lm else None,
        dtype_bytes,
        1 if quantized else dtype_bytes,
    )


Kind = TypeVar("Kind", Qwen3Config, VAEConfig)


def _config(source: str, folder: str, kind: type[Kind]) -> Kind:
    path = Path(source) / folder / "config.json"
    return parse_config(CONFIGS[source][folder] if source in SYNTHETIC else read_json(path), kind, str(path))


def block_weights(block: BlockConfig) -> int:
    """Weights of one block's matrices, 2HA + 2HK + 3HI: q, k, v, o, gate, up, down."""
    return _attention_weights(block) + 3 * block.hidden_size * block.intermediate_size


def _attention_weights(block: BlockConfig) -> int:
    return 2 * block.hidden_size * (_width(block) + block.num_key_value_heads * block.head_dim)


def _width(block: BlockConfig) -> int:
    return block.num_attention_heads * block.head_dim


def qwen3_weights(config: Qwen3Config) -> int:
    """Weights of the layers' matrices, without the token table."""
    return config.num_hidden_layers * block_weights(config)


def qwen3_flop(config: Qwen3Config, tokens: int, context: int = 0) -> int:
    """A causal pass over `tokens` that follow `context`: the text encoder, and prefill of the LM.

    Each token meets 2 FLOP per weight and, per layer, 4A for every key at or before it.
    """
    keys = tokens * context + tokens * (tokens + 1) // 2
    return 2 * tokens * qwen3_weights(config) + 4 * config.num_hidden_layers * _width(config) * keys


def lm_decode_flop(config: Qwen3Config, rows: int, context: int, head_rows: int) -> int:
    """One token for each of `rows`, chosen among `head_rows` of the head."""
    return rows * (qwen3_flop(config, 1, context) + 2 * config.hidden_size * head_rows)


def lm_decode_bytes(config: Qwen3Config, rows: int, context: int, dtype_bytes: int, head_rows: int) -> int:
    """What the same reads: every weight once, however many rows, and the keys and values of each row."""
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    weights = qwen3_weights(config) + config.hidden_size * head_rows
    return dtype_bytes * (weights + rows * context * cached)


def dit_weights(config: DiTConfig) -> int:
    """Weights a diffusion step reads: per layer a block and the q and o of cross-attention.

    Keys and values of the conditions, and all that follows from the time, are computed before the steps.
    """
    cross = 2 * config.hidden_size * _width(config)
    return config.num_hidden_layers * (block_weights(config) + cross) + 2 * _patch_weights(config)


def _patch_weights(config: DiTConfig) -> int:
    return config.patch_size * config.audio_acoustic_hidden_dim * config.hidden_size


def dit_flop(
    config: DiTConfig, tokens: int, encoder_tokens: int, rows: int = 1, *, guided: bool = False
) -> int:
    """One forward pass over `rows` items. Where `guided`, each has a twin without conditions beside it.

    The twin's cross-attention is one vector per layer and costs nothing. Of a sliding layer only the keys
    within the window count, |i - j| <= w.
    """
    beyond = max(tokens - config.sliding_window, 0)
    near = tokens**2 - beyond * (beyond - 1)
    sliding = config.layer_types.count("sliding_attention")
    layers, width = config.num_hidden_layers, _width(config)
    keys = sliding * near + (layers - sliding) * tokens**2
    own = 2 * tokens * (layers * block_weights(config) + _patch_weights(config)) + 4 * width * keys
    cross = 4 * layers * tokens * width * (config.hidden_size + encoder_tokens)
    patchify = 2 * tokens * _patch_weights(config)
    return rows * ((2 if guided else 1) * own + cross + patchify)


def dit_condition_flop(config: DiTConfig, tokens: int, encoder_tokens: int) -> int:
    """What the DiT computes once per generation: cross-attention's keys and values, the context's patches."""
    hidden = config.hidden_size
    key_value = 2 * hidden * config.num_key_value_heads * config.head_dim
    embed = config.encoder.hidden_size * hidden
    context = config.patch_size * (config.in_channels - config.audio_acoustic_hidden_dim) * hidden
    return 2 * (encoder_tokens * (embed + config.num_hidden_layers * key_value) + tokens * context)


def vae_decode_flop(config: VAEConfig, frames: int) -> int:
    """Latents of `frames` to audio: 2 FLOP per weight and place of each convolution."""
    return 2 * frames * sum(places * weights for places, weights in _vae_decoder(config))


def vae_decoder_weights(config: VAEConfig) -> int:
    """Weights of the decoder's convolutions."""
    return sum(weights for _, weights in _vae_decoder(config))


def _vae_decoder(config: VAEConfig) -> list[tuple[int, int]]:
    """Each convolution as places per latent frame (inputs, where it is transposed) and weights.

    A residual unit is a kernel of 7 and one of 1; there are three to a block.
    """
    widths = [config.decoder_channels * m for m in reversed([1, *config.channel_multiples])]
    convolutions, places = [(1, 7 * config.decoder_input_channels * widths[0])], 1
    for (wide, narrow), stride in zip(pairwise(widths), reversed(config.downsampling_ratios), strict=True):
        convolutions.append((places, 2 * stride * wide * narrow))
        places *= stride
        convolutions.append((places, 3 * (7 + 1) * narrow**2))
    return [*convolutions, (places, 7 * widths[-1] * config.audio_channels)]
