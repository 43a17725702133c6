"""The flow and the generator in pieces are what they are in one, with a context that is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from golden_rvc import drawn
from tiny_rvc import TINY, narrow, tiny_synthesizer
from torch import Tensor

from harness.parity import compare
from subjects.rvc.closed_form import flow_context, generator_context
from subjects.rvc.config import RATES, SYNTHESIZERS, SynthesizerConfig

LIMITS = {torch.float64: 1e-12, torch.float32: 1e-5}
CONTEXT = generator_context(TINY)
SHAPES = {
    **{rate: narrow(config) for rate, config in SYNTHESIZERS.items()},
    "tiny": TINY,
    "one stage": replace(TINY, rates=(4,), kernels=(4,), resblock_kernels=(3,), dilations=(1,)),
    "long kernels": replace(TINY, rates=(3, 2), kernels=(9, 12)),
    "the source farther": replace(TINY, rates=(1, 8), kernels=(1, 8), resblock_kernels=(1,), dilations=(1,)),
}


class Call(NamedTuple):
    """A network's inputs, and what makes its output of them, whole and in pieces."""

    inputs: Sequence[Tensor]
    whole: Callable[..., Tensor]
    chunked: Callable[..., Tensor]
    context: int


def generator_call(frames: int, config: SynthesizerConfig = TINY, dtype: torch.dtype = torch.float64) -> Call:
    network = tiny_synthesizer(config, dtype).dec
    z, har = drawn(1, 1, frames, config.inter), drawn(2, 1, frames * config.hop, 1)
    inputs = [value.to(dtype) for value in (z, har, drawn(3, 1, 1, config.gin))]
    return Call(inputs, network, network.chunked, network.context)


def flow_call(frames: int, config: SynthesizerConfig = TINY, dtype: torch.dtype = torch.float64) -> Call:
    network = tiny_synthesizer(config, dtype).flow
    inputs = [value.to(dtype) for value in (drawn(1, 1, frames, config.inter), drawn(3, 1, 1, config.gin))]
    return Call(inputs, network, network.chunked, network.context)


CALLS = {"generator": generator_call, "flow": flow_call}
NETWORKS = pytest.mark.parametrize("network", CALLS)


@NETWORKS
@pytest.mark.parametrize("dtype", LIMITS, ids=["fp64", "fp32"])
@pytest.mark.parametrize("frames", [1, CONTEXT, CONTEXT + 1, 2 * CONTEXT + 7, 50])
@torch.inference_mode()
def test_pieces_are_the_whole(network: str, dtype: torch.dtype, frames: int) -> None:
    call = CALLS[network](frames, dtype=dtype)
    whole = call.whole(*call.inputs)
    for size in (1, 7, frames) if frames < 50 else (25, 49):
        assert compare(whole, call.chunked(*call.inputs, size)).relative_rms < LIMITS[dtype]


@NETWORKS
@torch.inference_mode()
def test_pieces_without_context_are_not(network: str) -> None:
    call = CALLS[network](50)
    assert compare(call.whole(*call.inputs), call.chunked(*call.inputs, 25, context=0)).relative_rms > 1e-3


@torch.inference_mode()
def test_a_phase_that_begins_anew_is_not_the_whole_s() -> None:
    network, g = tiny_synthesizer().dec, drawn(3, 1, 1, TINY.gin)
    f0, eps = 31 + drawn(4, 1, 50).abs(), drawn(2, 1, 50 * TINY.hop, 1)
    z, har = drawn(1, 1, 50, TINY.inter), network.m_source(f0, eps)
    late = network.m_source(f0[:, 25:], eps[:, 25 * TINY.hop :])
    restarted = torch.cat((har[:, : 25 * TINY.hop], late), dim=1)
    errors = [compare(network(z, har, g), network.chunked(z, x, g, 25)) for x in (har, restarted)]
    assert errors[0].relative_rms < 1e-12 and errors[1].relative_rms > 1e-3


def reach(call: Call, frames: int) -> int:
    """How far from a frame in the middle an output is NaN, once an input of that frame is."""
    middle, farthest = frames // 2, 0
    for index, value in enumerate(call.inputs[:-1]):
        damaged = value.clone()
        damaged.unflatten(1, (frames, -1))[:, middle] = torch.nan
        inputs = [*call.inputs[:index], damaged, *call.inputs[index + 1 :]]
        nan = call.whole(*inputs).unflatten(1, (frames, -1)).isnan().flatten(2).any(-1)[0].nonzero()
        assert nan.min() > 0 and nan.max() < frames - 1
        farthest = max(farthest, middle - int(nan.min()), int(nan.max()) - middle)
    return farthest


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_the_generator_sees_as_far_as_its_kernels_say(shape: str) -> None:
    config = SHAPES[shape]
    context = generator_context(config)
    frames = 2 * context + 9
    assert reach(generator_call(frames, config), frames) == context


@torch.inference_mode()
def test_the_flow_sees_as_far_as_its_kernels_say() -> None:
    for config in (TINY, narrow(SYNTHESIZERS["48k"])):
        frames = 2 * flow_context(config) + 9
        assert reach(flow_call(frames, config), frames) == flow_context(config)


def test_published_contexts() -> None:
    assert [generator_context(SYNTHESIZERS[rate]) for rate in RATES] == [10, 11, 11]
    assert {flow_context(config) for config in SYNTHESIZERS.values()} == {24}
