"""Tracing the language model: the texts are not known, their lengths are.

A decode step costs the same whatever the token. Phase 2 is exactly 5 codes per second, and its steps are
alike as long as as many items go on and attention stays in a block of the cache: one of each kind stands for
all. Phase 1 says what its grammar allows first, which ends every open text at the first chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode.loop import CachedDecodeLoop
from acestep.lm.decode.selector import ConstrainedDecoder, Head
from acestep.lm.decode.step import CodeStep
from acestep.lm.grammar.allowed import Choice, Free
from acestep.text.tokenizer import IM_END, NEWLINE
from harness.graphs import Graphs
from harness.nn.sampling import Sampling
from harness.trace.stage_costs import StageCosts


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
    """Writes as many codes as asked for by running one step of each kind, for all of its kind."""

    decoder_type = FirstAllowed

    def __init__(self, loop: CachedDecodeLoop, stage_costs: StageCosts):
        super().__init__(loop.selector, loop.open_state, loop.open_graphs, loop.compiled)
        self._stage_costs = stage_costs

    def _decode(self, steps: Iterable[CodeStep], graphs: Graphs) -> None:
        for step, times in alike(steps):
            with self._stage_costs.counting(times):
                graphs.run(step, step)


def alike(steps: Iterable[CodeStep]) -> list[tuple[CodeStep, int]]:
    """A step of each kind, in the order they come, and how many there are."""
    return list(Counter(steps).items())


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
