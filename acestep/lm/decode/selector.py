"""The token selector: guidance, grammar and sampling over the logits of each item's rows.

Items decode together and each keeps to itself: its own grammar, its own stream of uniform draws, its own
length. So an item's tokens do not depend on the batch it is in, but for the rounding of matrix products.
In a text an item is one row. In audio codes with guidance it is two, the conditional one first; both are
fed the same tokens.

Whatever multiplies the matrices only has to give logits of the rows of the head it is asked for (`Head`);
choosing among them is the same everywhere, and only what is allowed is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from acestep.lm.grammar.allowed import Choice, Forced, Free, allowed_mask
from acestep.lm.grammar.constraint import Constraint
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import FIRST_CODE, TEXT_VOCAB
from harness.nn.sampling import Pick, Sampling
from harness.spans import span

# fp32 logits `[rows, V]` over `V` rows of the head.
Head = Callable[[slice | Tensor], Tensor]


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance of a language model (arXiv 2306.17806): u + scale·(c - u) of the logits c of
    an item's row and u of its twin, whose prompt is `unconditional`, the same for every item."""

    scale: float
    unconditional: list[int]

    def guided(self, logits: Tensor) -> Tensor:
        """`[items, V]` of the logits `[2·items, V]` of each item's row and its twin."""
        with span("cfg"):
            conditional, unconditional = logits.unflatten(0, (-1, 2)).unbind(1)
            return unconditional + self.scale * (conditional - unconditional)


class TokenSelector:
    """How one request chooses: by its sampling, with a stream of draws per item."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int], device: torch.device) -> None:
        self.sampling = sampling
        self.device = device
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def marks(self, items: int, vocabulary: int) -> Tensor | None:
        """`[items, V]` marks of tokens so far, kept only when a penalty needs them."""
        if self.sampling.repetition_penalty == 1.0:
            return None
        return torch.zeros(items, vocabulary, dtype=torch.bool, device=self.device)


class ConstrainedDecoder:
    """Constrained decoding of texts, one per item, each to its end. `texts`: their token ids so far.

    Every choice is read back, also that of a digit: what may follow, and the run that is certain after it,
    are a walk through the grammar on the host, and choice and run are fed as one pass. A field that is read
    back once would take a pass for each of its tokens, to save the waits of a few.
    """

    def __init__(
        self, selector: TokenSelector, prompts: Sequence[list[int]], constraints: Sequence[Constraint]
    ):
        """`prompts`: of each item, which a repetition penalty counts."""
        self.selector = selector
        self.constraints = constraints
        self.texts: list[list[int]] = [[] for _ in constraints]
        self._seen = selector.marks(len(prompts), TEXT_VOCAB)
        if self._seen is not None:
            for marks, prompt in zip(self._seen, prompts, strict=True):
                marks[[token for token in prompt if token < TEXT_VOCAB]] = True

    def next(self, head: Head) -> list[list[int]]:
        """Tokens of each item to be fed before the next call: a forced run, or a choice and what is certain
        after it; none where the text has ended, as nothing is predicted from an end.
        """
        runs = self._select(head)
        for item, (text, run) in enumerate(zip(self.texts, runs, strict=True)):
            text += run
            if self._seen is not None and run:
                self._seen[item, run] = True
        return [[] if c.done else run for c, run in zip(self.constraints, runs, strict=True)]

    def _select(self, head: Head) -> list[list[int]]:
        everything = cache(lambda: head(slice(TEXT_VOCAB)))

        def peek(item: int) -> Callable[[], int]:
            return lambda: int(everything()[item].argmax())

        with span("constraint"):
            allowed = [c.allowed(peek(item)) for item, c in enumerate(self.constraints)]
        runs = [list(a.ids) if isinstance(a, Forced) else [] for a in allowed]
        choosing = {item: a for item, a in enumerate(allowed) if isinstance(a, Choice | Free)}
        if choosing:
            for item, token in zip(choosing, self._choose(choosing, head, everything), strict=True):
                runs[item] = [token]
        with span("constraint"):
            for item, (constraint, run) in enumerate(zip(self.constraints, runs, strict=True)):
                constraint.advance(run)
                if item in choosing and (certain := constraint.certain()):
                    constraint.advance(certain)
                    run += certain
        return runs

    def _choose(
        self, allowed: dict[int, Choice | Free], head: Head, everything: Callable[[], Tensor]
    ) -> list[int]:
        """A token for each of the items `allowed` names; few rows of the head where they are enough."""
        device, sampling = self.selector.device, self.selector.sampling
        items = list(allowed)
        choices = [a for a in allowed.values() if isinstance(a, Choice)]
        if len(choices) == len(items):
            few = sorted({token for choice in choices for token in choice.ids})
            ids = torch.tensor(few, device=device)
            mask = torch.tensor([[token in choice.ids for token in few] for choice in choices])
            logits = head(ids)[items]
        else:
            ids = None
            mask = torch.stack([allowed_mask(a) for a in allowed.values()])
            logits = everything()[items]
        greedy = torch.tensor([isinstance(a, Choice) and a.greedy for a in allowed.values()])
        uniform = torch.cat([torch.rand(1, generator=self.selector.streams[item]) for item in items])
        with span("sampling"):
            logits = logits.masked_fill(~mask.to(device), -torch.inf)
            seen = None if self._seen is None else self._seen[items][:, slice(None) if ids is None else ids]
            picked = sampling.pick(logits, uniform.to(device), seen)
            picked = torch.where(greedy.to(device), logits.argmax(-1), picked)
            return (picked if ids is None else ids[picked]).tolist()


class CodeDecoder:
    """Audio codes: only they are looked at, so nothing else can follow, and none is read back to the host.

    The longest item comes first, so that the items still decoding are always the first ones: `order` says
    which items the rows are. What changes with each code is a buffer on the device, its index too.
    """

    def __init__(self, selector: TokenSelector, counts: Sequence[int], guidance: Guidance | None):
        """`counts[i]`: codes of item i."""
        self.selector = selector
        self.guidance = guidance
        self.branches = 2 if guidance else 1  # rows of an item
        self.order = sorted(range(len(counts)), key=lambda item: -counts[item])
        self.counts = [counts[item] for item in self.order]
        self.longest = self.counts[0]
        device = selector.device
        uniforms = torch.zeros(self.longest, len(counts))
        for place, (item, count) in enumerate(zip(self.order, self.counts, strict=True)):
            uniforms[:count, place] = torch.rand(count, generator=selector.streams[item])
        self._uniforms = uniforms.to(device)
        self._codes = torch.zeros(len(counts), self.longest, dtype=torch.long, device=device)
        self._seen = selector.marks(len(counts), CODES)
        self._index = torch.zeros(1, dtype=torch.long, device=device)  # of the next code
        self._tokens = torch.zeros(len(counts), 1, dtype=torch.long, device=device)  # the codes before

    @property
    def buffers(self) -> list[Tensor]:
        """What `next` changes, but for codes at an index that is still to come."""
        return [self._index, self._tokens, *(() if self._seen is None else (self._seen,))]

    def rows(self, prompts: Sequence[list[int]]) -> list[list[int]]:
        """What each row begins with, by the `prompts` of the items."""
        twin = [self.guidance.unconditional] if self.guidance else []
        return [row for item in self.order for row in (prompts[item], *twin)]

    def live(self, index: int) -> int:
        """How many items have a code `index`."""
        return sum(count > index for count in self.counts)

    def before(self, live: int) -> Tensor:
        """The codes before, as the tokens of the first `live` items' rows: int64 `[live·branches]`."""
        return self._tokens[:live].expand(live, self.branches).flatten()

    def next(self, head: Head, live: int, pick: Pick | None = None) -> Tensor:
        """The next code of the first `live` items as a token, int64 `[live]`; `pick`: as it was compiled."""
        pick = pick or self.selector.sampling.pick
        logits = head(slice(FIRST_CODE, FIRST_CODE + CODES))
        if self.guidance:
            logits = self.guidance.guided(logits)
        with span("sampling"):
            seen = None if self._seen is None else self._seen[:live]
            picked = pick(logits, self._uniforms[self._index, :live][0], seen)[:, None]
            self._codes[:live, self._index] = picked
            if seen is not None:
                seen.scatter_(1, picked, True)
            torch.add(picked, FIRST_CODE, out=self._tokens[:live])
            self._index.add_(1)
        return self._tokens[:live, 0]

    def in_order(self) -> list[Tensor]:
        """Codes int64 `[counts[i]]` of each item, in the items' own order."""
        codes = [row[:count] for row, count in zip(self._codes, self.counts, strict=True)]
        return [codes[self.order.index(item)] for item in range(len(codes))]
