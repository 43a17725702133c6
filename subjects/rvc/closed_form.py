"""Work and context of the networks, as closed forms of their configurations.

FLOP are what the calls compute, as `torch.utils.flop_counter` counts it: a multiply-add is 2; norms,
activations and softmax are left out. Values are those of matrices and convolutions, once a call, of what goes
in and of what comes out; bytes are as many times an element's. No torch import here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from subjects.rvc.config import HubertConfig, RMVPEConfig, SynthesizerConfig

ENDS_KERNEL = 7  # of the generator's first and last convolution


class Work(NamedTuple):
    flop: int
    values: int


class Layer(NamedTuple):
    """A linear or a convolution: weights, and how many places use each of them."""

    places: int
    weights: int


def _sum(layers: Iterable[Layer], products: int, ends: int) -> Work:
    """Of `layers`, `products` (multiply-adds) in which no weight is, and values at both `ends`."""
    layers = list(layers)
    multiplied = sum(layer.places * layer.weights for layer in layers)
    return Work(2 * (multiplied + products), ends + sum(layer.weights for layer in layers))


def rmvpe_work(config: RMVPEConfig, frames: int) -> Work:
    """RMVPE over `frames`, a multiple of its grid: the U-Net's features and their salience."""
    features, salience = rmvpe_features_work(config, frames), rmvpe_salience_work(config, frames)
    between = 2 * frames * config.out_channels * config.mels  # made by one, read by the other
    return Work(features.flop + salience.flop, features.values + salience.values - between)


def rmvpe_features_work(config: RMVPEConfig, frames: int) -> Work:
    """Its U-Net, which is all of its convolutions."""
    ends = frames * config.mels * (1 + config.out_channels)
    return _sum(_u_net(config, frames * config.mels), 0, ends)


def rmvpe_salience_work(config: RMVPEConfig, frames: int) -> Work:
    """Its GRU of three gates, both ways, and its linear."""
    width = config.out_channels * config.mels
    gates = 2 * 3 * config.gru * (width + config.gru)
    matrices = Layer(frames, gates + 2 * config.gru * config.bins)
    return _sum([matrices], 0, frames * (width + config.bins))


def _u_net(config: RMVPEConfig, places: int) -> Iterator[Layer]:
    """Of `places` of a log-mel a level has a quarter of those above. A transposed convolution multiplies each
    place of its input, of the level below."""
    depth, channels = config.levels, 1
    at = [places // 4**level for level in range(depth + 1)]
    widths = [config.channels * 2**level for level in range(depth)]
    down = [*enumerate(widths), *([(depth, 2 * widths[-1])] * config.intermediate)]
    for level, out in down:
        yield Layer(at[level], _blocks(config, channels, out))
        channels = out
    for level, out in reversed([*enumerate(widths)]):
        yield Layer(at[level + 1], 9 * channels * out)
        yield Layer(at[level], _blocks(config, channels, out))
        channels = out
    yield Layer(places, 9 * channels * config.out_channels)


def _blocks(config: RMVPEConfig, channels: int, out: int) -> int:
    """Two convolutions a block; beside the first ones a shortcut, where the number of channels changes."""
    shortcut = channels * out if channels != out else 0
    return 9 * (channels * out + (2 * config.blocks - 1) * out**2) + shortcut


def hubert_frames(config: HubertConfig, samples: int) -> int:
    """Frames that HuBERT makes of `samples`: at the published strides (N - 400) // 320 + 1."""
    return list(_lengths(config, samples))[-1]


def _lengths(config: HubertConfig, samples: int) -> Iterator[int]:
    """Places after each of the convolutions over samples."""
    for kernel, stride in zip(config.kernels, config.strides, strict=True):
        samples = (samples - kernel) // stride + 1
        yield samples


def hubert_work(config: HubertConfig, samples: int) -> Work:
    """HuBERT over `samples`."""
    hidden, width = config.hidden, config.conv_dim
    layers = [
        Layer(length, kernel * width * (width if index else 1))
        for index, (length, kernel) in enumerate(zip(_lengths(config, samples), config.kernels, strict=True))
    ]
    frames = layers[-1].places
    even = config.position_kernel % 2 == 0  # gives one place more
    positions = config.position_kernel * hidden * hidden // config.position_groups
    block = 4 * hidden**2 + 2 * hidden * config.intermediate
    layers += [
        Layer(frames, width * hidden), Layer(frames + even, positions), Layer(frames, config.layers * block)
    ]  # fmt: skip
    return _sum(layers, config.layers * 2 * hidden * frames**2, samples + frames * hidden)


def text_encoder_work(config: SynthesizerConfig, frames: int) -> Work:
    """The text encoder over `frames`. Each meets `window` keys more than there are at either end, and its
    relative positions."""
    hidden, distances = config.hidden, 2 * config.window + 1
    block = 4 * hidden**2 + 2 * config.kernel * hidden * config.filter
    matrices = config.phone * hidden + config.layers * block + hidden * 2 * config.inter
    relative = 2 * distances * hidden // config.heads  # shared by the heads
    layers = [Layer(frames, matrices), Layer(config.heads * frames, config.layers * relative)]
    products = config.layers * 2 * hidden * frames * (frames + 2 * config.window)
    return _sum(layers, products, frames * (config.phone + 1 + 2 * config.inter))


def flow_work(config: SynthesizerConfig, frames: int) -> Work:
    """The flow over `frames`; what the speaker's row is projected to is computed once."""
    hidden, depth = config.hidden, config.flow_layers
    gates = depth * config.flow_kernel * hidden * 2 * hidden
    residual = (2 * depth - 1) * hidden**2
    coupling = config.inter // 2 * hidden + gates + residual + hidden * config.inter // 2
    layers = [
        Layer(frames, config.flows * coupling),
        Layer(1, config.flows * config.gin * 2 * hidden * depth),
    ]
    return _sum(layers, 0, 2 * frames * config.inter + config.gin)


def generator_work(config: SynthesizerConfig, frames: int) -> Work:
    """The generator over `frames` and their source."""
    ends = frames * (config.inter + 2 * config.hop) + config.gin
    return _sum(_generator(config, frames), 0, ends)


def _generator(config: SynthesizerConfig, frames: int) -> Iterator[Layer]:
    channels, places, stride = config.initial, frames, config.hop
    yield Layer(frames, ENDS_KERNEL * config.inter * channels)
    yield Layer(1, config.gin * channels)
    for rate, kernel in zip(config.rates, config.kernels, strict=True):
        out = channels // 2
        yield Layer(places, kernel * channels * out)
        places, stride, channels = places * rate, stride // rate, out
        yield Layer(places, noise_kernel(stride) * channels)
        taps = sum(config.resblock_kernels) * len(config.dilations) * 2
        yield Layer(places, taps * channels**2)
    yield Layer(places, ENDS_KERNEL * channels)


def noise_kernel(stride: int) -> int:
    """Taps of the convolution that brings the source to a stage of `stride` samples a place."""
    return 2 * stride if stride > 1 else 1


def flow_context(config: SynthesizerConfig) -> int:
    """Frames on either side that a frame of the flow's output depends on."""
    return config.flows * config.flow_layers * (config.flow_kernel // 2)


def generator_context(config: SynthesizerConfig) -> int:
    """Frames on either side that a frame of the generator's output depends on.

    Backwards from the samples of frame 0: `first` and `last` are the places of a stage that they depend on.
    """
    ends = ENDS_KERNEL // 2
    first, last, stride = -ends, config.hop - 1 + ends, 1
    spread = max(config.resblock_kernels) // 2 * (sum(config.dilations) + len(config.dilations))
    sources = []
    for rate, kernel in zip(reversed(config.rates), reversed(config.kernels), strict=True):
        first, last = first - spread, last + spread
        begin = first * stride - stride // 2  # of the source, in samples
        end = last * stride - stride // 2 + noise_kernel(stride) - 1
        sources += [-(begin // config.hop), end // config.hop]
        padding, stride = (kernel - rate) // 2, stride * rate
        # Output n of a transposed convolution is of inputs i with 0 <= n + padding - i·rate < kernel.
        first, last = math.ceil((first + padding - kernel + 1) / rate), (last + padding) // rate
    return max(ends - first, ends + last, *sources)
