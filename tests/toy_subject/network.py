"""The network, the same in numpy, and its cost on paper."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.checkpoint import materialise, on_meta
from harness.subject import Component
from tests.toy_subject import FRAMES_PER_SECOND, SAMPLES_PER_FRAME


class Config(NamedTuple):
    """Widths of the noise, of the hidden layer and of the convolution."""

    inputs: int = 8
    hidden: int = 32
    kernel: int = 3
    channels: int = 2


class Encoder(nn.Module):
    """Noise `[B, T, inputs]` to a state of every frame `[B, T, hidden]`."""

    def __init__(self, config: Config):
        super().__init__()
        self.first = nn.Linear(config.inputs, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)

    def forward(self, noise: Tensor) -> Tensor:
        return self.second(self.first(noise).relu())


class Network(nn.Module):
    """Noise `[B, T, inputs]` to audio `[B, channels, T·SAMPLES_PER_FRAME]`."""

    def __init__(self, config: Config):
        super().__init__()
        self.encoder = Encoder(config)
        out = config.channels * SAMPLES_PER_FRAME
        self.decoder = nn.Conv1d(config.hidden, out, config.kernel, padding=config.kernel // 2)

    def decode(self, state: Tensor) -> Tensor:
        """States `[B, T, hidden]` to audio."""
        samples = self.decoder(state.transpose(1, 2))  # [B, channels·S, T]
        return samples.unflatten(1, (-1, SAMPLES_PER_FRAME)).transpose(2, 3).flatten(2)

    def forward(self, noise: Tensor) -> Tensor:
        return self.decode(self.encoder(noise))


def build(device: torch.device, dtype: torch.dtype) -> Network:
    """The network with the weights of its source: random, and always the same."""
    network = on_meta(lambda: Network(Config()))
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
        for name, parameter in network.named_parameters()
    }
    materialise(network, weights.__getitem__, device=device, dtype=dtype)
    return network


def oracle(network: Network, noise: Tensor) -> Tensor:
    """The same by sums of shifted products, from the same weights."""
    w = {name: parameter.numpy() for name, parameter in network.named_parameters()}
    hidden = np.maximum(noise.numpy() @ w["encoder.first.weight"].T + w["encoder.first.bias"], 0)
    state = hidden @ w["encoder.second.weight"].T + w["encoder.second.bias"]
    kernel, frames = w["decoder.weight"], state.shape[1]
    padded = np.pad(state, ((0, 0), (kernel.shape[2] // 2,) * 2, (0, 0)))
    taps = (padded[:, at : at + frames] @ kernel[:, :, at].T for at in range(kernel.shape[2]))
    samples = sum(taps) + w["decoder.bias"]  # [B, T, channels·S]
    audio = samples.reshape(*samples.shape[:2], -1, SAMPLES_PER_FRAME).transpose(0, 2, 1, 3)
    return torch.from_numpy(audio.reshape(*audio.shape[:2], -1))


def flop(frames: int) -> dict[str, int]:
    """FLOP of each stage: 2 per weight and frame."""
    config = Config()
    linear = config.inputs * config.hidden + config.hidden**2
    convolution = config.hidden * config.channels * SAMPLES_PER_FRAME * config.kernel
    return {"encode": 2 * frames * linear, "decode": 2 * frames * convolution}


def work(frames: int, element_bytes: int) -> tuple[int, int]:
    """FLOP and bytes of a call: every weight is read once, noise in and audio out."""
    config = Config()
    weights = sum(parameter.numel() for parameter in on_meta(lambda: Network(config)).parameters())
    values = weights + frames * (config.inputs + config.channels * SAMPLES_PER_FRAME)
    return sum(flop(frames).values()), element_bytes * values


def component() -> Component:
    """The network as a component; a size is a number of frames."""
    config = Config()
    return Component(
        name="network",
        config=config,
        unit=f"frames, {FRAMES_PER_SECOND} a second",
        build=build,
        inputs=lambda frames, generator: (torch.randn(1, frames, config.inputs, generator=generator),),
        run=lambda network, noise: network(noise),
        work=work,
        oracle=oracle,
    )
