"""FLOP and bytes of every network, as closed forms of its configuration. No torch import here.

It is what the calls compute, as `torch.utils.flop_counter` counts it: keys that a mask hides as well. A
multiply-add is 2 FLOP; norms, activations and softmax are left out. Bytes are those of weights as often
as they are read.

Widths: H of the talker, h of the predictor, A attention (heads x head size), L layers.
"""

from __future__ import annotations

from harness.nn.config import StackConfig
from subjects.qwen3_tts.config import (
    CodePredictorConfig,
    DecoderConfig,
    SpeakerConfig,
    TalkerConfig,
)

DILATED_UNITS = 3  # of a block of the decoder: a kernel of 7 and one of 1 each
KERNEL = 7


def stack_flop(config: StackConfig, tokens: int, pairs: int) -> int:
    """A causal stack over `tokens`, whose queries meet keys `pairs` times in each layer."""
    width = config.num_attention_heads * config.head_dim
    return config.num_hidden_layers * (2 * tokens * config.block_weights + 4 * width * pairs)


def prefill_flop(config: TalkerConfig, rows: int) -> int:
    """The talker over a prompt, and the head of its last row."""
    return stack_flop(config, rows, rows**2) + head_flop(config)


def head_flop(config: TalkerConfig) -> int:
    """Logits of one row: 2·H·V."""
    return 2 * config.hidden_size * config.vocab_size


def talker_weights(config: TalkerConfig) -> int:
    """Weights that a step reads: the layers' matrices and the head."""
    layers = config.num_hidden_layers * config.block_weights
    return layers + config.hidden_size * config.vocab_size


def frame_flop(config: CodePredictorConfig, talker_width: int) -> int:
    """The predictor's codes of one frame: a pass over two rows, then one over each of the other 14."""
    positions = config.num_code_groups
    pairs = 2 * 2 + sum(range(3, positions + 1))
    heads = 2 * (positions - 1) * config.hidden_size * config.vocab_size
    projected = 2 * talker_width * config.hidden_size if talker_width != config.hidden_size else 0
    return stack_flop(config, positions, pairs) + heads + projected


def frame_weights(config: CodePredictorConfig, talker_width: int) -> int:
    """Weights that the same reads: the layers' once for each of 15 passes, each head once."""
    passes = config.num_code_groups - 1
    layers = config.num_hidden_layers * config.block_weights
    projection = talker_width * config.hidden_size if talker_width != config.hidden_size else 0
    return passes * (layers + config.hidden_size * config.vocab_size) + projection


def decoder_flop(config: DecoderConfig, frames: int, pairs: int) -> int:
    """`frames` of codes to audio; in each layer of the transformer queries meet keys `pairs` times."""
    width = config.num_attention_heads * config.head_dim
    attention = 4 * config.num_hidden_layers * width * pairs
    return attention + 2 * frames * sum(places * weights for places, weights in _decoder(config))


def window_pairs(config: DecoderConfig, frames: int) -> int:
    """How often queries meet keys in a layer of one pass: all of them where the window holds them; else
    queries in blocks of a window, each of which meets two."""
    before = config.sliding_window - 1
    if frames <= config.sliding_window:
        return frames**2
    return -(-frames // before) * before * 2 * before


def decoder_weights(config: DecoderConfig) -> int:
    """Weights of the decoder's matrices and convolutions, read once a call; codebooks are looked up."""
    return sum(weights for _, weights in _decoder(config))


def _decoder(config: DecoderConfig) -> list[tuple[int, int]]:
    """Each layer as places per frame (inputs, where it is transposed) and weights."""
    latent, hidden = config.latent_dim, config.hidden_size
    heads = config.num_attention_heads + config.num_key_value_heads
    block = 2 * hidden * heads * config.head_dim + 3 * hidden * config.intermediate_size
    layers = [
        (1, 3 * config.codebook_dim * latent),
        (1, 2 * latent * hidden + config.num_hidden_layers * block),
    ]
    places = 1
    for ratio in config.upsampling_ratios:
        layers.append((places, latent * latent * ratio))
        places *= ratio
        layers.append((places, KERNEL * latent + 2 * latent * 4 * latent))
    channels = config.decoder_dim
    layers.append((places, KERNEL * latent * channels))
    for rate in config.upsample_rates:
        out = channels // 2
        layers.append((places, 2 * rate * channels * out))
        places *= rate
        layers.append((places, DILATED_UNITS * (KERNEL + 1) * out**2))
        channels = out
    return [*layers, (places, KERNEL * channels)]


def speaker_flop(config: SpeakerConfig, frames: int) -> int:
    """The speaker encoder over `frames` of a log-mel."""
    return 2 * sum((frames if every else 1) * weights for every, weights in _speaker(config))


def speaker_weights(config: SpeakerConfig) -> int:
    """Weights of its convolutions."""
    return sum(weights for _, weights in _speaker(config))


def _speaker(config: SpeakerConfig) -> list[tuple[bool, int]]:
    """Each layer's weights, and whether it runs at every frame or once."""
    first, *blocks, last = config.enc_channels
    kernel, *kernels, last_kernel = config.enc_kernel_sizes
    attention, scale, squeezed = (
        config.enc_attention_channels,
        config.enc_res2net_scale,
        config.enc_se_channels,
    )
    layers = [(True, kernel * config.mel_dim * first)]
    for channels, size in zip(blocks, kernels, strict=True):
        part = channels // scale
        layers.append((True, 2 * channels**2 + (scale - 1) * size * part**2))
        layers.append((False, 2 * channels * squeezed))
    layers.append((True, last_kernel * last**2))
    layers.append((True, 4 * last * attention))
    return [*layers, (False, 2 * last * config.enc_dim)]
