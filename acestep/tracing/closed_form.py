"""FLOP and bytes of every network, as closed forms of its configuration. No torch import here.

One block carries nearly all of it: with weights 2HA + 2HK + 3HI a token costs 2 FLOP per weight, and 4A for
every key its queries see. Counted is what a result needs, in the order this engine computes it: conditions
once per generation, of a sliding layer only the keys in the window, and of tiles only what is kept. With
`executed` it is what `torch.utils.flop_counter` counts of the calls: the band in whole blocks of keys, and
keys that a mask hides as well; the fused kernels of a card skip them. A multiply-add is 2 FLOP; norms,
activations and softmax are left out, well under 1 % of any part.

Widths: H hidden, A attention (heads x head size), K key/value, I intermediate, L layers, D of the encoders.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from acestep.models.configs import SINUSOID_SIZE, DiTConfig, VAEConfig
from acestep.weights.layout import TEXT_ENCODER, VAE
from acestep.weights.sources import component_config, dit_config
from harness.nn.config import BlockConfig, Qwen3Config
from harness.quantization import matrix_bytes


@dataclass(frozen=True, slots=True)
class Networks:
    """The configurations a run's cost follows from; those of networks that are not loaded are None."""

    dit: DiTConfig | None
    vae: VAEConfig
    lm: Qwen3Config | None
    dtype_bytes: int
    dit_bytes: int  # of a weight of the DiT's layers
    lm_bytes: int  # of all matrices of the language model's layers
    text: Qwen3Config | None = None  # the text encoder, which goes with the DiT
    islands: bool = False  # whether what leaves the range of fp16 is in fp32 (`harness.nn.islands`)


def networks(
    source: str,
    dit: str | None,
    lm: str | None,
    dtype_bytes: int,
    *,
    quantized: bool = False,
    lm_quantization: str | None = None,
    on_card: bool = True,
    islands: bool = False,
) -> Networks:
    """The networks in folders `dit` and `lm` of a source. Raises CheckpointError for a bad config.json.

    `quantized`: the matrices of the DiT's layers are a byte per weight. `lm_quantization`: of the language
    model's, by its name in `harness.quantization`, as laid out for a card or for a CPU.
    """
    language_model = component_config(source, lm, Qwen3Config) if lm else None
    return Networks(
        dit_config(source, dit) if dit else None,
        component_config(source, VAE, VAEConfig),
        language_model,
        dtype_bytes,
        1 if quantized else dtype_bytes,
        qwen3_bytes(language_model, dtype_bytes, lm_quantization, on_card) if language_model else 0,
        component_config(source, TEXT_ENCODER, Qwen3Config) if dit else None,
        islands,
    )


def block_weights(block: BlockConfig) -> int:
    """Weights of one block's matrices, 2HA + 2HK + 3HI: q, k, v, o, gate, up, down."""
    return block.block_weights


def _width(block: BlockConfig) -> int:
    return block.num_attention_heads * block.head_dim


def _layers_flop(block: BlockConfig, layers: int, tokens: int, pairs: int) -> int:
    """`layers` blocks over `tokens`, in each of which queries meet keys `pairs` times."""
    return layers * (2 * tokens * block_weights(block) + 4 * _width(block) * pairs)


def band_pairs(tokens: int, window: int, *, executed: bool = False) -> int:
    """How often a query meets a key of a sliding layer, |i - j| <= window.

    `executed`: queries in whole blocks of a window, each of which meets three windows of keys.
    """
    if tokens <= window + 1:
        return tokens**2
    if executed:
        return -(-tokens // window) * window * 3 * window
    return tokens**2 - (tokens - window) * (tokens - window - 1)


def qwen3_weights(config: Qwen3Config) -> int:
    """Weights of the layers' matrices, without the token table."""
    return config.num_hidden_layers * block_weights(config)


def qwen3_bytes(
    config: Qwen3Config, dtype_bytes: int, quantization: str | None = None, on_card: bool = True
) -> int:
    """Bytes of the layers' matrices in `quantization`, without the token table, which stays as it is."""
    layer = sum(matrix_bytes(quantization, *shape, dtype_bytes, on_card) for shape in config.matrices)
    return config.num_hidden_layers * layer


def qwen3_flop(config: Qwen3Config, tokens: int, context: int = 0, *, executed: bool = False) -> int:
    """A causal pass over `tokens` that follow `context`: the text encoder, and prefill of the LM.

    Each token meets 2 FLOP per weight and, per layer, 4A for every key at or before it.
    """
    seen = tokens**2 if executed else tokens * (tokens + 1) // 2
    return _layers_flop(config, config.num_hidden_layers, tokens, tokens * context + seen)


def lm_decode_flop(config: Qwen3Config, rows: int, context: int, head_rows: int) -> int:
    """One token for each of `rows`, chosen among `head_rows` of the head."""
    return rows * (qwen3_flop(config, 1, context) + 2 * config.hidden_size * head_rows)


def lm_decode_bytes(
    config: Qwen3Config,
    rows: int,
    context: int,
    dtype_bytes: int,
    head_rows: int,
    layers_bytes: int | None = None,
) -> int:
    """What the same reads: every weight once, however many rows, and the keys and values of each row.

    `layers_bytes`: of the layers' matrices, where those are not of `dtype_bytes` a weight.
    """
    cached = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    plain = config.hidden_size * head_rows + rows * context * cached
    layers_bytes = qwen3_bytes(config, dtype_bytes) if layers_bytes is None else layers_bytes
    return layers_bytes + dtype_bytes * plain


def dit_weights(config: DiTConfig) -> int:
    """Weights a diffusion step reads: per layer a block and the q and o of cross-attention.

    Keys and values of the conditions, and all that follows from the time, are computed before the steps.
    """
    cross = 2 * config.hidden_size * _width(config)
    return config.num_hidden_layers * (block_weights(config) + cross) + 2 * _patch_weights(config)


def _patch_weights(config: DiTConfig) -> int:
    return config.patch_size * config.audio_acoustic_hidden_dim * config.hidden_size


def dit_flop(
    config: DiTConfig,
    tokens: int,
    encoder_tokens: int,
    rows: int = 1,
    *,
    guided: bool = False,
    executed: bool = False,
) -> int:
    """One forward pass over `rows` items. Where `guided`, each has a twin without conditions beside it.

    The twin's cross-attention is one vector per layer and costs nothing.
    """
    layers, width = config.num_hidden_layers, _width(config)
    sliding = config.layer_types.count("sliding_attention")
    near = band_pairs(tokens, config.sliding_window, executed=executed)
    full = _layers_flop(config, layers - sliding, tokens, tokens**2)
    own = full + _layers_flop(config, sliding, tokens, near)
    patch = 2 * tokens * _patch_weights(config)  # on the way out; on the way in both twins are one
    cross = 4 * layers * tokens * width * (config.hidden_size + encoder_tokens)
    return rows * ((2 if guided else 1) * (own + patch) + cross + patch)


def dit_modulate_flop(config: DiTConfig, steps: int) -> int:
    """What the DiT computes once per schedule: a time's embedding, for each step and for their distance."""
    hidden = config.hidden_size
    return 2 * (steps + 1) * hidden * (SINUSOID_SIZE + hidden + 6 * hidden)


def dit_condition_flop(
    config: DiTConfig, tokens: int, encoder_tokens: int, rows: int = 1, *, guided: bool = False
) -> int:
    """What the DiT computes once per prompt: cross-attention's keys and values, the context's patches of
    each of `rows` items.

    Where `guided`, the token of no conditions as well, through to cross-attention's output.
    """
    token, patch = _condition_weights(config)
    null = token + config.num_hidden_layers * config.hidden_size * _width(config) if guided else 0
    return 2 * (encoder_tokens * token + rows * tokens * patch + null)


def _condition_weights(config: DiTConfig) -> tuple[int, int]:
    """Weights that a token of the conditions meets in the DiT, and a patch of the context."""
    hidden = config.hidden_size
    key_value = 2 * hidden * config.num_key_value_heads * config.head_dim
    context = config.patch_size * (config.in_channels - config.audio_acoustic_hidden_dim) * hidden
    return config.encoder.hidden_size * hidden + config.num_hidden_layers * key_value, context


def condition_flop(
    config: DiTConfig, caption_tokens: int, lyric_tokens: int, *, executed: bool = False
) -> int:
    """The condition encoder over one prompt: the caption's projection, and the lyric encoder."""
    into = 2 * config.text_hidden_dim * config.encoder.hidden_size
    lyrics = _encoder_flop(config, config.num_lyric_encoder_hidden_layers, lyric_tokens, executed)
    return (caption_tokens + lyric_tokens) * into + lyrics


def condition_bytes(config: DiTConfig, dtype_bytes: int, *, islands: bool = False) -> int:
    """Matrices that conditioning on a prompt reads, in the DiT and before it. With `islands` the lyric
    encoder's last projection is in fp32."""
    into = 2 * config.text_hidden_dim * config.encoder.hidden_size
    lyrics = config.num_lyric_encoder_hidden_layers * block_weights(config.encoder)
    wide = config.encoder.intermediate_size * config.encoder.hidden_size if islands else 0
    return dtype_bytes * (sum(_condition_weights(config)) + into + lyrics) + (4 - dtype_bytes) * wide


def timbre_flop(config: DiTConfig, clips: int = 1, *, executed: bool = False) -> int:
    """The timbre encoder over `clips` of 30 s. XL reads a learned token before each."""
    frames = config.timbre_fix_frame
    into = 2 * frames * config.audio_acoustic_hidden_dim * config.encoder.hidden_size
    layers = config.num_timbre_encoder_hidden_layers
    return clips * (into + _encoder_flop(config, layers, frames + config.is_xl, executed))


def tokenizer_flop(config: DiTConfig, codes: int) -> int:
    """Latents to `codes`, five frames and a learned token to each."""
    frames, hidden = config.pool_window_size, config.encoder.hidden_size
    into = 2 * frames * hidden * (config.audio_acoustic_hidden_dim + hidden)
    pooled = _encoder_flop(config, config.num_attention_pooler_hidden_layers, frames + 1, False)
    return codes * (into + pooled + _fsq_flop(config))


def detokenizer_flop(config: DiTConfig, codes: int) -> int:
    """`codes` to latents, five frames of each, every one of which sees the others."""
    frames, hidden = config.pool_window_size, config.encoder.hidden_size
    embed, out = 2 * hidden**2, 2 * frames * hidden * config.audio_acoustic_hidden_dim
    layers = config.num_attention_pooler_hidden_layers
    return codes * (_fsq_flop(config) + embed + _layers_flop(config.encoder, layers, frames, frames**2) + out)


def _fsq_flop(config: DiTConfig) -> int:
    return 2 * config.fsq_dim * len(config.fsq_input_levels)


def _encoder_flop(config: DiTConfig, layers: int, tokens: int, executed: bool) -> int:
    """Blocks of an encoder, sliding and full in turn."""
    block, far = config.encoder, layers // 2
    near = band_pairs(tokens, config.sliding_window, executed=executed)
    return _layers_flop(block, layers - far, tokens, near) + _layers_flop(block, far, tokens, tokens**2)


def vae_decode_flop(config: VAEConfig, frames: int) -> int:
    """Latents of `frames` to audio: 2 FLOP per weight and place of each convolution."""
    return 2 * frames * sum(places * weights for places, weights in _vae_decoder(config))


def vae_decoder_weights(config: VAEConfig) -> int:
    """Weights of the decoder's convolutions."""
    return sum(weights for _, weights in _vae_decoder(config))


def vae_encode_flop(config: VAEConfig, frames: int) -> int:
    """Audio to latents of `frames`."""
    return 2 * frames * sum(places * weights for places, weights in _vae_encoder(config))


def _vae_decoder(config: VAEConfig) -> list[tuple[int, int]]:
    """Each convolution as places per latent frame (inputs, where it is transposed) and weights."""
    widths = [config.decoder_channels * m for m in reversed([1, *config.channel_multiples])]
    convolutions, places = [(1, 7 * config.decoder_input_channels * widths[0])], 1
    for (wide, narrow), stride in zip(pairwise(widths), reversed(config.downsampling_ratios), strict=True):
        convolutions.append((places, 2 * stride * wide * narrow))
        places *= stride
        convolutions.append((places, _residual_weights(narrow)))
    return [*convolutions, (places, 7 * widths[-1] * config.audio_channels)]


def _vae_encoder(config: VAEConfig) -> list[tuple[int, int]]:
    """Each convolution as places per latent frame (its outputs) and weights."""
    first = config.encoder_channels or config.encoder_hidden_size
    widths = [first * m for m in (1, *config.channel_multiples)]
    places = config.hop
    convolutions = [(places, 7 * config.audio_channels * widths[0])]
    for (narrow, wide), stride in zip(pairwise(widths), config.downsampling_ratios, strict=True):
        convolutions.append((places, _residual_weights(narrow)))
        places //= stride
        convolutions.append((places, 2 * stride * narrow * wide))
    return [*convolutions, (places, 3 * widths[-1] * config.encoder_hidden_size)]


def _residual_weights(channels: int) -> int:
    """Three units to a block, each a kernel of 7 and one of 1."""
    return 3 * (7 + 1) * channels**2
