"""diffusers' and transformers' networks beside ours in turn, on the same weights and inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial

import torch

from acestep.weights.layout import LMS
from harness.device import resolve_device, resolve_dtype
from harness.errors import BenchError
from harness.memory import hand_back
from scripts import network_pairs
from scripts.gpu.steps import Measured, Step, Task
from scripts.in_turn import Ratio, in_turn


def steps(task: Task) -> Iterator[Step]:
    """A pass of the DiT and a decode of the VAE at a song's length, and a token of the smallest LM."""
    song = f"{task.sizes.duration_s:g} s"
    lm = LMS[0].rpartition("-")[2]
    for name, part, size in (("DiT pass", "dit", song), ("VAE decode", "vae", song), ("LM decode", "lm", lm)):
        yield Step(name, partial(_measured, task, part, size))
        hand_back()


def _measured(task: Task, part: str, size: str) -> Measured:
    device, sizes = resolve_device(task.device), task.sizes
    dtype = resolve_dtype("auto", device, "bfloat16" if task.on_cuda else "float32")
    with torch.inference_mode():
        both = network_pairs.beside(
            part, task.source, device, dtype, tokens=sizes.tokens, duration_s=sizes.duration_s
        )
        pairs = list(in_turn(both.theirs_ms, both.ours_ms, sizes.pairs))
    if min(itertools.chain(*pairs)) <= 0:
        raise BenchError("the time of a token is less than the noise; measure where nothing else runs")
    ratio = Ratio.of(pairs)
    theirs_ms, ours_ms = (sorted(times)[len(times) // 2] for times in zip(*pairs, strict=True))
    values = {"size": size, "pairs": len(pairs), "theirs_ms": theirs_ms, "ours_ms": ours_ms}
    values |= {"ratio": ratio.median, "low": ratio.low, "high": ratio.high, "off": both.off}
    return Measured(values, error=both.wrong)
