"""The decode loop: predict a token for every item, feed it to the item's rows, until every item has ended.

This is the loop of the backends that run the model in this process (pt, mlx): they differ in their `KVState`.
Tokens that the grammar forces are fed as one pass; where there is a choice only the rows of the head that are
allowed are multiplied, 64,000 of 217,204 for codes. The second phase starts from the first one's prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from itertools import takewhile
from typing import Any, Protocol

from torch import Tensor

from acestep.lm.decode.selector import CodeDecoder, ConstrainedDecoder, Guidance, TokenSelector
from acestep.lm.decode.step import CodeStep, OnCode, Window, code_steps, compiled_pick, prepare, told
from acestep.lm.grammar.constraint import Constraint
from acestep.result import Counts
from harness.adjustments import Fallback
from harness.compiling import Compiled
from harness.graphs import Graphs, unrecorded
from harness.spans import span


class KVState(Protocol):
    """The KV cache of rows of tokens. `prefill_tokens`: how many it took to read the prompts."""

    prefill_tokens: int

    def extend(self, runs: Sequence[Sequence[int]]) -> None:
        """Feed each row a run of its own; a row with an empty run stays where it is."""
        ...

    @property
    def buffers(self) -> Sequence[Tensor]:
        """What a step changes, but for keys and values, where steps are compiled or recorded."""
        ...

    def window(self, rows: int, new: int) -> Window:
        """The first `rows` rows, going on without the others, at the step that feeds each its token number
        `new`, from 1."""
        ...

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[R, V]` of each row's next token, over `V` rows of the head."""
        ...

    def prefix(self, row: int) -> Any:
        """A row's prompt with its keys and values, for a later state."""
        ...


# The state of prompts with room for so many new tokens, from prefixes that are known.
Open = Callable[[list[list[int]], int, list[Any]], KVState]


class Tally:
    """Counts of what a decode loop has done so far, and in `fallbacks` what it could not do as it should."""

    def __init__(self) -> None:
        self.fallbacks: list[Fallback] = []
        self.prompt_tokens = self.prefill_tokens = self.steps = self.kept = self.longest_codes = 0

    def counts(self) -> Counts:
        return Counts(
            lm_prompt_tokens=self.prompt_tokens,
            lm_prefill_tokens=self.prefill_tokens,
            lm_decode_steps=self.steps,
            lm_decode_tokens=self.kept,
            audio_codes=self.longest_codes,
        )


class CachedDecodeLoop(Tally):
    """A request of one or two phases: prompts that were read are not read again."""

    decoder_type = ConstrainedDecoder

    def __init__(
        self,
        selector: TokenSelector,
        open_state: Open,
        open_graphs: Callable[[], Graphs] = Graphs,
        compiled: Compiled | None = None,
    ):
        """`open_graphs`: where the steps of a phase are recorded; `compiled`: by which they are."""
        super().__init__()
        self.selector = selector
        self.open_state = open_state
        self.open_graphs = open_graphs
        self.compiled = compiled
        self._state: KVState | None = None  # of the phase before

    def texts(self, prompts: Sequence[list[int]], constraints: Sequence[Constraint]) -> list[list[int]]:
        with span("lm_prefill"):
            state = self._state = self._open(prompts, max(c.most_tokens for c in constraints))
        with span("lm_decode"):
            decoder = self.decoder_type(self.selector, prompts, constraints)
            while any(runs := decoder.next(state.head)):
                with span("forward"):
                    state.extend(runs)
                if max(map(len, runs)) == 1:
                    self.steps += 1
                else:
                    self.prefill_tokens += sum(map(len, runs))
        self.kept += sum(map(len, decoder.texts))
        return decoder.texts

    def codes(
        self,
        prompts: Sequence[list[int]],
        counts: Sequence[int],
        guidance: Guidance | None = None,
        on_code: OnCode | None = None,
    ) -> list[Tensor]:
        with span("lm_prefill"):
            codes = CodeDecoder(self.selector, counts, guidance)
            state = self._open(codes.rows(prompts), codes.longest)
        graphs = self.open_graphs()
        pick = compiled_pick(self.compiled, self.selector)
        prepare(code_steps(state, codes, pick), state, graphs, self.compiled)
        with span("lm_decode"), self.compiled.frozen() if self.compiled else nullcontext():
            codes.next(state.head, codes.live(0))
            steps = code_steps(state, codes, pick)
            self._decode(told(steps, on_code) if on_code else steps, graphs)
        if graphs.failure:
            self.fallbacks.append(unrecorded("lm_decode", graphs.failure))
        self.steps += codes.longest - 1
        self.kept += sum(counts)
        self.longest_codes = codes.longest
        return codes.in_order()

    def _decode(self, steps: Iterable[CodeStep], graphs: Graphs) -> None:
        for step in steps:
            graphs.run(step, step)

    def _open(self, rows: Sequence[list[int]], new_tokens: int) -> KVState:
        """The state of prompts; what the first row of the state before has read of them is taken from it:
        the items of a request begin with one prompt."""
        known = [self._state.prefix(0)] if self._state else []
        self._state = None  # its memory is needed
        state = self.open_state(list(rows), new_tokens, known)
        self.prompt_tokens += sum(map(len, rows))
        self.prefill_tokens += state.prefill_tokens
        return state


def common_prefix(prompts: Sequence[list[int]]) -> int:
    """How many tokens all of `prompts` begin with."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return sum(1 for _ in alike)
