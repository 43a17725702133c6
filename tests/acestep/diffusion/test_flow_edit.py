"""Flow-edit against its formula written out in numpy, and what must be true of it whatever the network."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from velocities import DOUBLE, SEEDS, draw, split

from acestep.diffusion.flow_edit import edit
from acestep.diffusion.guidance import Guidance
from acestep.diffusion.schedule import edited

FRAMES, SCALE = 8, 4.0
TIMES = [1.0, 0.8, 0.5, 0.3, 0.1]
RECORDING = draw(11, frames=FRAMES)
Array = np.ndarray
WORDS = {"target": draw(3, frames=FRAMES), "source": draw(4, frames=FRAMES), "none": draw(5, frames=FRAMES)}


def velocity(x: Any, t: float, words: str) -> Any:
    """Bent by the words; in numpy as in torch."""
    pull = WORDS[words]
    return math.cos(2 * t) * x * (1 + 0.1 * len(words)) + (pull.numpy() if isinstance(x, Array) else pull)


class Network:
    """A DiT of those velocities."""

    def __init__(self):
        self.calls: list[tuple[str, int]] = []

    def velocity(self, x, conditions, modulation, step):
        self.calls.append((conditions, step))
        return velocity(x, modulation[step], conditions)

    def velocities(self, x, conditions, modulation, step):
        return self.velocity(x, conditions, modulation, step), velocity(x, modulation[step], "none")


def ours(edits: int, times: list[float] = TIMES, **options: Any) -> tuple[torch.Tensor, Network]:
    network: Any = Network()
    words: Any = ("target", "source")
    times_of: Any = times
    chosen, rest = split({"seeds": SEEDS} | options)
    latents, passes = edit(network, RECORDING, *words, times_of, times, chosen, edits=edits, **rest)
    assert passes == len(network.calls)
    return latents, network


class Trajectory:
    """Velocities along one of the two, in numpy: guided by APG, clamped, averaged, smoothed."""

    def __init__(self, words: str, guidance: Guidance | None, norm: float, ema: float):
        self.words, self.guidance, self.norm, self.ema = words, guidance, norm, ema
        self.momentum: Any = 0.0
        self.last: Array | None = None

    def mean(self, xs: list[Array], t: float) -> Array:
        pairs = [self.guided(x, t) for x in xs]
        v = np.mean([self.clamped(v, x) for (v, _), x in zip(pairs, xs, strict=True)], axis=0)
        if self.guidance:
            self.momentum = np.mean([difference for _, difference in pairs], axis=0) - 0.75 * self.momentum
        if self.last is not None:
            v = (1 - self.ema) * v + self.ema * self.last
        self.last = v
        return v

    def guided(self, x: Array, t: float) -> tuple[Array, Any]:
        c = velocity(x, t, self.words)
        if self.guidance is None:
            return c, None
        difference = c - velocity(x, t, "none")
        m = difference - 0.75 * self.momentum
        m = m * np.minimum(1, 2.5 / np.linalg.norm(m, axis=1, keepdims=True))
        e = c / np.linalg.norm(c, axis=1, keepdims=True)
        return c + (SCALE - 1) * (m - (m * e).sum(1, keepdims=True) * e), difference

    def clamped(self, v: Array, x: Array) -> Array:
        if not self.norm:
            return v
        lengths = [np.sqrt((each**2).sum(axis=(1, 2), keepdims=True)) for each in (x, v)]
        return v * np.minimum(1, self.norm * lengths[0] / lengths[1])


def by_hand(
    edits: int, draws: int = 1, guidance: Guidance | None = None, norm: float = 0.0, ema: float = 0.0
) -> torch.Tensor:
    recording = RECORDING.numpy().repeat(len(SEEDS), axis=0)
    streams = [torch.Generator().manual_seed(seed) for seed in SEEDS]

    def noised(t: float) -> Array:
        e = [torch.randn(1, FRAMES, 64, generator=stream, dtype=DOUBLE).numpy() for stream in streams]
        return (1 - t) * recording + t * np.concatenate(e)

    target, source = (Trajectory(words, guidance, norm, ema) for words in ("target", "source"))
    x = recording
    for step, (t, t_next) in enumerate(pairwise([*TIMES, 0.0])):
        if step < edits:
            starts = [noised(t) for _ in range(draws)]
            ahead = target.mean([x + start - recording for start in starts], t)
            x = x + (t_next - t) * (ahead - source.mean(starts, t))
        else:
            if step == edits:
                x = x + noised(t) - recording
            x = x + (t_next - t) * target.mean([x], t)
    return torch.from_numpy(x)


APG = Guidance(SCALE, "apg")
CASES = {
    "whole": (5, {}),
    "the rest is the target's": (2, {}),
    "draws": (3, {"draws": 3}),
    "guided": (5, {"draws": 2, "guidance": APG}),
    "all": (3, {"draws": 2, "guidance": APG, "norm": 0.8, "ema": 0.3}),
    "nothing is edited": (0, {}),
}
NAMES = {"norm": "norm_threshold", "ema": "ema_factor"}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_is_its_formula(case: str):
    edits, options = CASES[case]
    latents, network = ours(edits, **{NAMES.get(name, name): value for name, value in options.items()})
    expected = by_hand(edits, **options)
    assert torch.allclose(latents, expected, rtol=0, atol=1e-10)
    steps = [step for _, step in network.calls]
    draws = options.get("draws", 1)
    assert steps == [step for step in range(5) for _ in range(2 * draws if step < edits else 1)]


def test_each_of_its_options_is_heard():
    """The controls: without any one of them the result is another."""
    edits, options = CASES["all"]
    latents, _ = ours(edits, **{NAMES.get(name, name): value for name, value in options.items()})
    for name in options:
        others = {other: value for other, value in options.items() if other != name}
        assert not torch.allclose(latents, by_hand(edits, **others), rtol=0, atol=1e-3), name
    assert not torch.allclose(latents, by_hand(edits + 1, **options), rtol=0, atol=1e-3)


def test_the_same_words_leave_the_recording_as_it_is(monkeypatch: pytest.MonkeyPatch):
    latents, _ = ours(5)
    assert not torch.allclose(latents, RECORDING, atol=0.1)
    monkeypatch.setattr(
        Network, "velocity", lambda self, x, c, m, s: (self.calls.append((c, s)), m[s] * x)[1]
    )
    latents, _ = ours(5)
    assert torch.allclose(latents, RECORDING.expand_as(latents), rtol=0, atol=1e-12)


def test_an_item_does_not_depend_on_its_batch():
    edits, options = 3, {"draws": 2, "guidance": APG, "norm_threshold": 0.8}
    together, _ = ours(edits, **options)
    alone, _ = ours(edits, seeds=SEEDS[1:], **options)
    assert torch.equal(together[1:], alone) and not torch.allclose(together[:1], alone, atol=1e-3)


@pytest.mark.parametrize(
    ("n_min", "n_max", "times", "edits"),
    [
        (0.0, 1.0, TIMES, 5),
        (0.2, 0.8, TIMES[1:], 3),
        (0.39, 0.59, TIMES[1:], 1),  # 1.95 steps and 2.95
        (0.4, 0.5, TIMES[2:], 0),
        (1.0, 1.0, [], 0),
    ],
)
def test_shares_of_a_schedule_are_whole_steps_of_it(n_min: float, n_max: float, times: list, edits: int):
    assert edited(TIMES, n_min, n_max) == (times, edits)
