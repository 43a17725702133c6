"""Tracing the language model: the texts are not known, their lengths are.

A decode step costs the same whatever the token, but for the keys and values it reads, which grow with
the context. Phase 2 is exactly 5 codes per second, so a few steps at equal distances stand for all of them
(trapezoids: exact where cost is linear in the context, as it is up to the rounding of masks). Phase 1 says
what its grammar allows first, which ends every open text at the first chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import CodeDecoder, ConstrainedDecoder, Head
from acestep.lm.grammar.allowed import Choice, Free
from acestep.lm.sampling import Sampling
from acestep.text.tokenizer import IM_END, NEWLINE
from harness.trace.stage_costs import StageCosts

SAMPLED_STEPS = 5


def trapezoids(steps: int, points: int = SAMPLED_STEPS) -> list[tuple[int, Fraction]]:
    """`points` of `steps` numbered from 1, and how many steps each stands for; every step of a few.

    The first and the last are among them, so the largest context is met.
    """
    if steps <= points:
        return [(step, Fraction(1)) for step in range(1, steps + 1)]
    at = [1 + (steps - 1) * place // (points - 1) for place in range(points)]
    shares = [Fraction(0)] * points
    for left, (a, b) in enumerate(pairwise(at)):
        # Steps a to b-1 hold the mean of both ends, leaning to a by half a step: the sum of a line is exact.
        width, lean = b - a, Fraction(b - a - 1, 2)
        shares[left] += width - lean
        shares[left + 1] += lean
    shares[-1] += 1
    return list(zip(at, shares, strict=True))


class FirstAllowed(ConstrainedDecoder):
    """Texts that say the first thing that is allowed, and end where they may."""

    def _choose(
        self, allowed: dict[int, Choice | Free], head: Head, everything: Callable[[], Tensor]
    ) -> list[int]:
        super()._choose(allowed, head, everything)  # which is what it costs
        return [min(a.ids) if isinstance(a, Choice) else _first(a.mask) for a in allowed.values()]


def _first(mask: Tensor) -> int:
    ends = [token for token in (IM_END, NEWLINE) if mask[token]]
    return ends[0] if ends else int(mask.byte().argmax())


class SampledDecodeLoop(CachedDecodeLoop):
    """Writes as many codes as asked for by running some of the steps, each for those it stands for."""

    decoder_type = FirstAllowed

    def __init__(self, writer: CachedDecodeLoop, stage_costs: StageCosts):
        super().__init__(writer.selector, writer.open_state)
        self._stage_costs = stage_costs

    def _decode(self, state: Any, codes: CodeDecoder) -> None:
        tokens = codes.next(state.head, 0)
        lengths = list(state.lengths)
        for index, times in trapezoids(codes.longest - 1):
            state.lengths = [length + index - 1 for length in lengths[: len(state.lengths)]]
            with self._stage_costs.counting(times):
                tokens = self._step(state, codes, tokens, index)


@dataclass(frozen=True)
class Sampled:
    """The backend `held`, whose writers take samples."""

    held: PT
    stage_costs: StageCosts
    name: ClassVar[str] = "pt"

    def load(self) -> None:
        self.held.load()

    def using(self) -> AbstractContextManager[object]:
        return self.held.using()

    def decode_loop(self, sampling: Sampling, seeds: Sequence[int]) -> SampledDecodeLoop:
        return SampledDecodeLoop(self.held.decode_loop(sampling, seeds), self.stage_costs)

    def facts(self) -> dict[str, Any]:
        return self.held.facts()

    def close(self) -> None:
        self.held.close()
