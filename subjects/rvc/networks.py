"""The networks one by one, as `harness.subject.Component`: inputs, a call, its cost.

A size is frames of 10 ms. Bytes of a call are those of weights once, of what goes in and of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.accelerators import Accelerator
from harness.subject import Component
from subjects.rvc import closed_form, weights
from subjects.rvc.closed_form import Work
from subjects.rvc.config import HOP, HUBERT_FIELD, PITCH_STEPS, Configs
from subjects.rvc.layout import HUBERT, RMVPE
from subjects.rvc.models.generator import Generator
from subjects.rvc.models.text_encoder import TextEncoder
from subjects.rvc.setup import Setup
from subjects.rvc.weights import SYNTHESIZER

UNIT = "frames of 10 ms"
LEAST_FRAMES = -(-HUBERT_FIELD // HOP)  # of which HuBERT makes one
Inputs = Callable[[int, torch.Generator], tuple[Tensor, ...]]


def components(source: str) -> dict[str, Component]:
    """RMVPE, HuBERT, and the three parts of the synthesizer. Raises CheckpointError."""
    return of(Setup.choose(source, accelerator=Accelerator("cpu", "CPU", 0.0)))


def of(setup: Setup) -> dict[str, Component]:
    """The same of the voice of a setup."""
    configs = setup.configs
    config = configs.synthesizer

    def part(name: str, path: str, inputs: Inputs, run: Callable[..., Tensor], work: Callable[..., Work]):
        return _component(
            setup, configs, name, (SYNTHESIZER, path), config, inputs, run, partial(work, config)
        )

    def latents(frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return torch.randn(1, frames, config.inter, generator=generator), _speaker(config.gin, generator)

    def driven(frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        z, g = latents(frames, generator)
        return z, 0.1 * torch.randn(1, frames * config.hop, 1, generator=generator), g

    def spoken(frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        phone = torch.randn(1, frames, config.phone, generator=generator)
        return phone, torch.randint(1, PITCH_STEPS, (1, frames), generator=generator)

    parts = [
        _rmvpe(setup, configs),
        _hubert(setup, configs),
        part("encoder", "enc_p", spoken, _distribution, closed_form.text_encoder_work),
        part("flow", "flow", latents, lambda network, z, g: network(z, g), closed_form.flow_work),
        part("generator", "dec", driven, _waves, closed_form.generator_work),
    ]
    return {part.name: part for part in parts}


def _rmvpe(setup: Setup, configs: Configs) -> Component:
    config = configs.rmvpe
    grid = 2**config.levels

    def on_grid(frames: int) -> int:
        return -(-frames // grid) * grid

    def inputs(frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (2 * torch.randn(1, on_grid(frames), config.mels, generator=generator) - 4,)

    def work(frames: int) -> Work:
        return closed_form.rmvpe_work(config, on_grid(frames))

    return _component(setup, configs, RMVPE, (RMVPE, ""), config, inputs, _call, work)


def _hubert(setup: Setup, configs: Configs) -> Component:
    def samples(frames: int) -> int:
        return max(frames, LEAST_FRAMES) * HOP

    def inputs(frames: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (0.1 * torch.randn(1, samples(frames), generator=generator),)

    def work(frames: int) -> Work:
        return closed_form.hubert_work(configs.hubert, samples(frames))

    return _component(setup, configs, HUBERT, (HUBERT, ""), configs.hubert, inputs, _call, work)


def _component(
    setup: Setup,
    configs: Configs,
    name: str,
    place: tuple[str, str],
    config: Any,
    inputs: Inputs,
    run: Callable[..., Tensor],
    work: Callable[[int], Work],
) -> Component:
    """`place`: the network, and the part of it."""
    network, path = place

    def build(device: torch.device, dtype: torch.dtype) -> nn.Module:
        return weights.network(weights.open_source(setup), configs, network, device, dtype, part=path)

    def cost(frames: int, element_bytes: int) -> tuple[int, int]:
        flop, values = work(frames)
        return flop, element_bytes * values

    return Component(name, config, UNIT, build, inputs, run, cost)


def _call(network: nn.Module, x: Tensor) -> Tensor:
    return network(x)


def _distribution(network: TextEncoder, phone: Tensor, pitch: Tensor) -> Tensor:
    """Means and logarithms of scales side by side."""
    return torch.cat(network(phone, pitch), dim=-1)


def _waves(network: Generator, z: Tensor, har: Tensor, g: Tensor) -> Tensor:
    return network(z, har, g)


def _speaker(width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(1, 1, width, generator=generator)
