"""One request, step by step: rows are fed what their items say, until every item has said it.

This is the loop of the backends that hold the model themselves (pt, mlx): they differ in their `Session`.
Forced runs are one pass; where there is a choice only the rows of the head that are allowed are multiplied,
64,000 of 217,204 for codes. The second phase starts from the first one's prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from acestep.lm.decode.selector import CodeDecoder, ConstrainedDecoder, TokenSelector
from acestep.lm.grammar.constraint import Constraint
from acestep.result import Counts
from harness.spans import span

if TYPE_CHECKING:
    from acestep.lm.backends.interface import Prompt


class Session(Protocol):
    """Rows of tokens, their keys and values kept. `prefill_tokens`: how many it took to read the prompts."""

    prefill_tokens: int

    def extend(self, runs: Sequence[Sequence[int]]) -> None:
        """Feed each row a run of its own; a row with an empty run stays where it is."""
        ...

    def step(self, tokens: Tensor) -> None:
        """Feed every row one token: `tokens [R]`."""
        ...

    def keep(self, rows: int) -> None:
        """Go on with the first `rows` rows only."""
        ...

    def head(self, rows: slice | Tensor) -> Tensor:
        """fp32 logits `[R, V]` of each row's next token, over `V` rows of the head."""
        ...

    def prefix(self, row: int) -> Any:
        """A row's prompt with its keys and values, for a later session."""
        ...


# A session of prompts with room for so many new tokens, from prefixes that are known.
Open = Callable[[list[list[int]], int, list[Any]], Session]


class Tally:
    """What a writer has done so far."""

    def __init__(self) -> None:
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

    def __init__(self, selector: TokenSelector, open_session: Open):
        super().__init__()
        self.selector = selector
        self.open_session = open_session
        self._session: Session | None = None  # of the phase before

    def texts(self, prompts: Sequence[Prompt], constraints: Sequence[Constraint]) -> list[list[int]]:
        branches = self.selector.branches
        with span("lm_prefill"):
            session = self._session = self._open(prompts, max(c.most_tokens for c in constraints))
        with span("lm_decode"):
            texts = self.decoder_type(self.selector, [prompt[0] for prompt in prompts], constraints)
            while any(runs := texts.next(session.head)):
                with span("forward"):
                    session.extend([run for run in runs for _ in range(branches)])
                if max(map(len, runs)) == 1:
                    self.steps += 1
                else:
                    self.prefill_tokens += branches * sum(map(len, runs))
        self.kept += sum(map(len, texts.found))
        return texts.found

    def codes(self, prompts: Sequence[Prompt], counts: Sequence[int]) -> list[Tensor]:
        with span("lm_prefill"):
            codes = CodeDecoder(self.selector, counts)
            session = self._open([prompts[item] for item in codes.order], codes.longest)
        with span("lm_decode"):
            self._decode(session, codes)
        self.steps += codes.longest - 1
        self.kept += sum(counts)
        self.longest_codes = codes.longest
        return codes.found()

    def _decode(self, session: Session, codes: CodeDecoder) -> None:
        tokens = codes.next(session.head, 0)
        for index in range(1, codes.longest):
            tokens = self._step(session, codes, tokens, index)

    def _step(self, session: Session, codes: CodeDecoder, tokens: Tensor, index: int) -> Tensor:
        """Feed the codes before `index`, as `tokens [items]`, to the items that go on; theirs at `index`."""
        live = codes.live(index)
        with span("forward"):
            session.keep(live * self.selector.branches)
            session.step(tokens[:live].repeat_interleave(self.selector.branches))
        return codes.next(session.head, index)

    def _open(self, prompts: Sequence[Prompt], new_tokens: int) -> Session:
        """A session of `prompts`, read as far as the session before has not read them."""
        branches = self.selector.branches
        rows = [row for prompt in prompts for row in prompt[:branches]]
        known = [self._session.prefix(row) for row in range(branches)] if self._session else []
        self._session = None  # its memory is needed
        session = self.open_session(rows, new_tokens, known)
        self.prompt_tokens += sum(map(len, rows))
        self.prefill_tokens += session.prefill_tokens
        return session


def common_prefix(prompts: Sequence[list[int]]) -> int:
    """How many tokens all of `prompts` begin with."""
    alike = takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return sum(1 for _ in alike)
