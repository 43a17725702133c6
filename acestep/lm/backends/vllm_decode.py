"""The decode loop on vLLM: the rows of a request, and the token each of them takes at every step.

vLLM gives each row one token per step. So each text has a queue: a forced run goes out of it token by token,
while the other items of the batch choose. Guidance twins get the same token in the same step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from acestep.lm.backends.finite import checked
from acestep.lm.decode.loop import Tally
from acestep.lm.decode.selector import CodeDecoder, ConstrainedDecoder, Guidance, TokenSelector
from acestep.lm.decode.step import OnCode
from acestep.lm.grammar.constraint import Constraint
from acestep.text.tokenizer import IM_END
from harness.spans import span

if TYPE_CHECKING:
    from vllm import RequestOutput  # pyright: ignore[reportMissingImports]


class Engine(Protocol):
    """vLLM's side: see `acestep.lm.backends.vllm_backend`."""

    def read(self, prompts: Sequence[list[int]]) -> list[RequestOutput]: ...

    def write(
        self, request: Request, prompts: Sequence[list[int]], most: Sequence[int]
    ) -> list[RequestOutput]: ...


class VLLMDecodeLoop(Tally):
    """One request, in one or two phases."""

    def __init__(self, engine: Engine, selector: TokenSelector):
        super().__init__()
        self.engine = engine
        self.selector = selector

    def texts(self, prompts: Sequence[list[int]], constraints: Sequence[Constraint]) -> list[list[int]]:
        request = TextRequest(self.selector, prompts, constraints)
        self._write(request, prompts, [c.most_tokens for c in constraints])
        texts = [decoder.texts[0] for decoder in request.texts]
        self.kept += sum(map(len, texts))
        return texts

    def codes(
        self,
        prompts: Sequence[list[int]],
        counts: Sequence[int],
        guidance: Guidance | None = None,
        on_code: OnCode | None = None,
    ) -> list[Tensor]:
        request = CodeRequest(CodeDecoder(self.selector, counts, guidance), on_code)
        self._write(request, request.codes.rows(prompts), request.codes.counts)
        self.kept += sum(counts)
        self.longest_codes = request.codes.longest
        return request.codes.in_order()

    def _write(self, request: Request, rows: Sequence[list[int]], most: Sequence[int]) -> None:
        """Read the prompts of all `rows`, then write to the end of each; `most` tokens of each item."""
        with span("lm_prefill"):
            done = self.engine.read([list(row) for row in dict.fromkeys(map(tuple, rows))])
        with checked(request.finite), span("lm_decode"), request.forward:
            done += self.engine.write(request, rows, [new for new in most for _ in range(request.branches)])
        self.prompt_tokens += sum(map(len, rows))
        self.prefill_tokens += sum(len(d.prompt_token_ids) - d.num_cached_tokens for d in done)
        self.steps += request.steps - 1  # the first came with the prompts


class Request(ABC):
    """What one call of vLLM writes. `steps`: how often it was asked for tokens.

    `forward` is open while vLLM works, and closed while tokens are chosen.
    """

    def __init__(self, branches: int):
        self.branches = branches
        self.steps = 0
        self._logits: Tensor | None = None  # of the last step
        self._ended: list[Tensor] = []  # of each step in which items ended: whether any logits were NaN
        self.forward = span("forward")

    @property
    @abstractmethod
    def items(self) -> list[int]:
        """Those not at their end, ascending."""

    @abstractmethod
    def choose(self, logits: Tensor) -> Tensor:
        """A token for each of `items`, int64 `[items]`, by the fp32 logits `[rows, V]`."""

    @property
    def rows(self) -> list[int]:
        """Of each item the conditional row, then the unconditional one where it is guided."""
        return [item * self.branches + branch for item in self.items for branch in range(self.branches)]

    def next(self, logits: Tensor) -> Tensor:
        """A token for each of `rows`, int64 `[rows]`, by their fp32 logits `[rows, V]`."""
        before = len(self.items)
        self._logits = logits
        self.forward.__exit__()
        try:
            tokens = self.choose(logits)
        finally:
            self.forward.__enter__()
        self.steps += 1
        if len(self.items) < before:  # the rows that end are in no later logits
            self._ended.append(logits.isnan().any())
        return tokens.repeat_interleave(self.branches)

    def finite(self) -> bool:
        """Whether no logits of an item's last step are NaN; vLLM may have set some to minus infinity."""
        last = [] if self._logits is None else [self._logits.isnan().any()]
        return not any(map(bool, (*self._ended, *last)))


class TextRequest(Request):
    """Texts of different lengths. Each is chosen by itself, as they are not at the same place."""

    def __init__(
        self, selector: TokenSelector, prompts: Sequence[list[int]], constraints: Sequence[Constraint]
    ):
        super().__init__(branches=1)
        self.texts = [
            ConstrainedDecoder(_alone(selector, item), [prompt], [constraint])
            for item, (prompt, constraint) in enumerate(zip(prompts, constraints, strict=True))
        ]
        self._queues: list[list[int]] = [[] for _ in constraints]  # [IM_END]: at the end
        self._live = list(range(len(constraints)))

    @property
    def items(self) -> list[int]:
        return self._live

    def choose(self, logits: Tensor) -> Tensor:
        tokens = []
        for item, row in zip(self._live, logits.split(1), strict=True):
            queue = self._queues[item]
            if not queue:
                # The rest of a text that has ended is not fed: its end, which stops vLLM, stands for it.
                queue += self.texts[item].next(partial(_head, row))[0] or [IM_END]
            tokens.append(queue.pop(0))
        self._live = [item for item, token in zip(self._live, tokens, strict=True) if token != IM_END]
        return torch.tensor(tokens, device=logits.device)


class CodeRequest(Request):
    """CodeDecoder, in the order of `codes.order`: its first items are those still being written."""

    def __init__(self, codes: CodeDecoder, on_code: OnCode | None = None):
        super().__init__(codes.branches)
        self.codes = codes
        self._on_code = on_code

    @property
    def items(self) -> list[int]:
        return list(range(self.codes.live(self.steps)))

    def choose(self, logits: Tensor) -> Tensor:
        tokens = self.codes.next(partial(_head, logits), len(self.items))
        if self._on_code:
            self._on_code(self.steps + 1)
        return tokens


def _head(logits: Tensor, rows: slice | Tensor) -> Tensor:
    return logits[:, rows]


def _alone(selector: TokenSelector, item: int) -> TokenSelector:
    """The selector of one item of several: its stream, which both phases draw from."""
    alone = copy(selector)
    alone.streams = [selector.streams[item]]
    return alone
