"""diffusers' and transformers' networks beside ours in turn, on the same weights and inputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from acestep import networks, oracles
from acestep.models.rates import FRAMES_PER_SECOND
from acestep.profiler.devices import best_s
from acestep.weights.layout import LMS
from harness.device import resolve_device, resolve_dtype, synchroniser
from harness.errors import BenchError
from harness.memory import hand_back
from scripts.gpu.steps import Measured, Ratio, Step, Task, in_turn

SEED = 0
MOST_OFF = 0.3  # relative RMS of two implementations in bf16; another network is off by 1


def steps(task: Task) -> Iterator[Step]:
    for name, part, theirs in (
        ("DiT pass", "dit", _their_dit),
        ("VAE decode", "vae_decoder", _their_decoder),
    ):
        yield Step(name, partial(_network, task, part, theirs))
        hand_back()
    yield Step("LM decode", partial(_decode, task))


def _their_dit(component: Any, ours: Any, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    x, context, encoded = inputs
    theirs = oracles.diffusers_dit(component.config, ours, x.dtype, share=True)
    times = torch.full((len(x),), networks.TIME, dtype=x.dtype, device=x.device)
    return lambda: theirs(x, times, times, encoded, context, return_dict=False)[0]


def _their_decoder(component: Any, ours: Any, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
    theirs = oracles.diffusers_vae(component.config, "decoder", ours, inputs[0].dtype)
    return lambda: theirs(*inputs)


def _network(task: Task, part: str, their: Callable[..., Callable[[], Tensor]]) -> Measured:
    """One call of a network, at the frames of a song."""
    oracles.library("diffusers")
    device = resolve_device(task.device)
    dtype = resolve_dtype("auto", device, "bfloat16" if task.on_cuda else "float32")
    component = networks.components(task.source)[part]
    frames = int(task.sizes.duration_s * FRAMES_PER_SECOND)
    wait = synchroniser(device) or (lambda: None)
    with torch.inference_mode():
        drawn = component.inputs(frames, torch.Generator().manual_seed(SEED))
        inputs = tuple(tensor.to(device, dtype) for tensor in drawn)
        network = component.build(device, dtype)
        calls = their(component, network, inputs), partial(component.run, network, *inputs)
        theirs, ours = (call().double() for call in calls)
        off = float((ours - theirs).norm() / theirs.norm())
        del theirs, ours
        timed = [partial(best_s, call, wait, repeats=1) for call in calls]
        pairs = in_turn(timed[0], timed[1], task.sizes.pairs)
    return _measured(pairs, 1000, f"{task.sizes.duration_s:g} s", off)


def _decode(task: Task) -> Measured:
    """Milliseconds of a decoded token of the smallest language model, greedy, at batch 1."""
    from scripts import decode_ratio

    oracles.library("transformers")
    device = resolve_device(task.device)
    dtype = resolve_dtype("auto", device, "bfloat16" if task.on_cuda else "float32")
    wait = synchroniser(device) or (lambda: None)
    with torch.inference_mode():
        ours, model = decode_ratio.our_decode(task.source, device, dtype)
        theirs = decode_ratio.their_decode(model, device)
        for decode in (theirs, ours):
            decode(2)
        timed = [partial(decode_ratio.token_ms, decode, task.sizes.tokens, wait) for decode in (theirs, ours)]
        pairs = in_turn(timed[0], timed[1], task.sizes.pairs)
    if min(itertools.chain(*pairs)) <= 0:
        raise BenchError("the time of a token is less than the noise; measure where nothing else runs")
    return _measured(pairs, 1, LMS[0].rpartition("-")[2], None)


def _measured(pairs: list[tuple[float, float]], to_ms: float, size: str, off: float | None) -> Measured:
    ratio = Ratio.of(pairs)
    theirs_ms, ours_ms = (to_ms * sorted(times)[len(times) // 2] for times in zip(*pairs, strict=True))
    values = {"size": size, "pairs": len(pairs), "theirs_ms": theirs_ms, "ours_ms": ours_ms}
    values |= {"ratio": ratio.median, "low": ratio.low, "high": ratio.high, "off": off}
    wrong = f"not the same network: off by {off:.2g} of its RMS" if off and off > MOST_OFF else ""
    return Measured(values, error=wrong)
