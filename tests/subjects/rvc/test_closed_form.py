"""Work on paper is the work that is counted, and the figures of a second of audio."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_rvc import TINY, TINY_HUBERT
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.checkpoint import on_meta
from subjects.rvc import closed_form
from subjects.rvc.closed_form import Work
from subjects.rvc.config import RATES, SYNTHESIZERS, HubertConfig, SynthesizerConfig
from subjects.rvc.models.flow import Flow
from subjects.rvc.models.generator import Generator
from subjects.rvc.models.hubert import Hubert
from subjects.rvc.models.text_encoder import TextEncoder

CONFIGS = {
    **SYNTHESIZERS,
    "tiny": TINY,
    "odd": replace(TINY, kernel=5, layers=3, rates=(5, 4), kernels=(9, 8)),
}


def zeros(*shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def text_encoder(config: SynthesizerConfig, frames: int) -> tuple[Any, ...]:
    return zeros(1, frames, config.phone), zeros(1, frames, dtype=torch.long)


def flow(config: SynthesizerConfig, frames: int) -> tuple[Any, ...]:
    return zeros(1, frames, config.inter), zeros(1, 1, config.gin)


def generator(config: SynthesizerConfig, frames: int) -> tuple[Any, ...]:
    return zeros(1, frames, config.inter), zeros(1, frames * config.hop, 1), zeros(1, 1, config.gin)


NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[..., Any], Callable[..., Work]]] = {
    "text encoder": (TextEncoder, text_encoder, closed_form.text_encoder_work),
    "flow": (Flow, flow, closed_form.flow_work),
    "generator": (Generator, generator, closed_form.generator_work),
}


def counted(network: nn.Module, inputs: tuple[Any, ...]) -> Work:
    """What a call computes, and the values of matrices and of both ends; looked up are rows, and what makes
    the source is no part of the call."""
    network.to_empty(device="cpu")
    for parameter in network.parameters():
        parameter.requires_grad_(False).zero_()
    # The plain kernel is products of matrices, which are counted on a CPU as well.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outputs = network(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
    matrices = sum(
        p.numel()
        for name, p in network.named_parameters()
        if p.ndim > 1 and id(p) not in tables and not name.startswith("m_source")
    )
    return Work(counter.get_total_flops(), matrices + sum(x.numel() for x in (*inputs, *outputs)))


@pytest.mark.parametrize("part", NETWORKS)
@pytest.mark.parametrize(("size", "frames"), [*((rate, 2) for rate in RATES), ("odd", 37), ("tiny", 1)])
def test_work_on_paper_is_work_counted(part: str, size: str, frames: int) -> None:
    build, inputs, work = NETWORKS[part]
    config = CONFIGS[size]
    assert work(config, frames) == counted(on_meta(lambda: build(config)), inputs(config, frames))


@pytest.mark.parametrize("samples", [400, 719, 5000])
@pytest.mark.parametrize("odd", [0, 1])
def test_hubert_s_work_on_paper_is_work_counted(samples: int, odd: int) -> None:
    config = replace(TINY_HUBERT, position_kernel=TINY_HUBERT.position_kernel + odd)
    network = on_meta(lambda: Hubert(config))
    assert closed_form.hubert_work(config, samples) == counted(network, (zeros(1, samples),))


def test_frames_of_hubert() -> None:
    samples = (400, 719, 720, 16_000, 48_000, 80_000)
    assert [closed_form.hubert_frames(HubertConfig(), n) for n in samples] == [1, 1, 2, 49, 149, 249]


def test_figures_of_a_second() -> None:
    per_second = [closed_form.generator_work(SYNTHESIZERS[rate], 100).flop / 1e9 for rate in RATES]
    assert [round(gflop, 2) for gflop in per_second] == [110.15, 91.45, 76.89]
    assert math.isclose(closed_form.flow_work(SynthesizerConfig(), 100).flop, 1.06e9, rel_tol=0.01)
    assert math.isclose(closed_form.hubert_work(HubertConfig(), 160_000).flop, 148e9, rel_tol=0.02)
