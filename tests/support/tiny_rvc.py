"""Synthesizers narrow enough for tests, and what goes into one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from golden_rvc import drawn, golden_tensors
from tiny_decoder12hz import loaded
from torch import Tensor, nn

from harness.checkpoint import on_meta
from harness.nn.folded import stored_shapes
from subjects.rvc.config import HubertConfig, SynthesizerConfig
from subjects.rvc.models.synthesizer import Synthesizer

TINY_HUBERT = HubertConfig(
    hidden=24, intermediate=40, layers=2, heads=3, conv_dim=12, position_kernel=8, position_groups=4
)
TINY = SynthesizerConfig(
    sample_rate=600,
    rates=(3, 2),
    kernels=(7, 4),
    phone=9,
    inter=4,
    hidden=8,
    filter=12,
    heads=2,
    layers=2,
    window=3,
    flows=2,
    flow_layers=2,
    initial=16,
    resblock_kernels=(3, 5),
    dilations=(1, 3),
    gin=5,
    speakers=3,
)


def narrow(config: SynthesizerConfig) -> SynthesizerConfig:
    """`config` with fewest channels: its rates, kernels and dilations stay."""
    return replace(
        config, inter=2, hidden=2, filter=2, heads=1, initial=16, gin=2, speakers=1, phone=2, layers=1
    )


def golden_network(network: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """`network`, of the meta device, with the values of the seed rule."""
    return loaded(network, golden_tensors(stored_shapes(network)), dtype)


def tiny_synthesizer(config: SynthesizerConfig = TINY, dtype: torch.dtype = torch.float64) -> Synthesizer:
    network = golden_network(on_meta(lambda: Synthesizer(config)), dtype)
    assert isinstance(network, Synthesizer)
    return network


class Inputs(NamedTuple):
    """What `Synthesizer.forward` takes; frames 5, 6 and 7 are unvoiced."""

    phone: Tensor
    pitch: Tensor
    f0: Tensor
    speaker: Tensor
    e1: Tensor
    eps: Tensor


def inputs(
    config: SynthesizerConfig, frames: int, speaker: int, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Those that the golden values were made from."""
    frame = torch.arange(frames)
    f0 = 200.0 + 5 * frame
    f0[5:8] = 0
    return Inputs(
        phone=drawn(1, 1, frames, config.phone).to(dtype),
        pitch=((13 * frame) % 255 + 1)[None],
        f0=f0[None],
        speaker=torch.tensor([speaker]),
        e1=drawn(2, 1, config.inter, frames).to(dtype),
        eps=drawn(3, 1, frames * config.hop, 1).to(dtype),
    )
