"""Audio codes to write: cases, and what of each is written by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from scenarios import SOURCE, our_own
from torch import Tensor

from acestep.lm.backends.pt_backend import PT
from acestep.lm.decode.selector import CodeDecoder, Guidance, TokenSelector
from acestep.text.audio_codes import CODES
from acestep.text.tokenizer import FIRST_CODE
from harness.nn.sampling import Sampling

Codes = list[list[int]]  # of each item
# In blocks: a row that ends just before a border, on it, behind it, and one that is far from any.
PROMPTS = [[*range(100, 107)], [*range(100, 108)], [*range(100, 106), 9, 9, 9], [5, 6, 7]]
TWIN = [*range(100, 103), 8]
SAMPLED = Sampling(1.0, top_k=500, top_p=0.95, repetition_penalty=1.3)


@cache
def ours() -> PT:
    """Our own model in fp64, in which no rounding of a product changes what is sampled."""
    return our_own(SOURCE, torch.float64)


@dataclass(frozen=True)
class Case:
    counts: tuple[int, ...]
    sampling: Sampling = SAMPLED
    guided: bool = True

    @property
    def prompts(self) -> list[list[int]]:
        return PROMPTS[: len(self.counts)]

    @property
    def guidance(self) -> Guidance | None:
        return Guidance(2.0, TWIN) if self.guided else None

    @property
    def seeds(self) -> list[int]:
        return [3 + item for item in range(len(self.counts))]


CASES = {
    "greedy": Case((9,), Sampling(0.0), guided=False),
    "guided": Case((9,)),
    "a penalty": Case((4, 4), replace(SAMPLED, top_p=1.0), guided=False),
    "unequal counts": Case((4, 9, 2)),
    "the first to end comes last": Case((2, 3, 3, 6), guided=False),
}


def by_hand(case: Case) -> Codes:
    """Each item alone, each code from its whole text run again."""
    model = ours().model
    head = model.embed_tokens.weight[FIRST_CODE : FIRST_CODE + CODES]

    def logits(ids: list[int]) -> Tensor:
        return F.linear(model(torch.tensor([ids]))[:, -1], head).float()

    items = []
    for prompt, count, seed in zip(case.prompts, case.counts, case.seeds, strict=True):
        draws = torch.rand(count, generator=torch.Generator().manual_seed(seed))
        codes: list[int] = []
        for draw in draws:
            written = [code + FIRST_CODE for code in codes]
            scores = logits(prompt + written)
            if case.guided:
                twin = logits(TWIN + written)
                scores = twin + 2.0 * (scores - twin)
            seen = torch.zeros(1, CODES, dtype=torch.bool)
            seen[0, codes] = True
            codes.append(int(case.sampling.pick(scores, draw[None], seen)))
        items.append(codes)
    return items


def opened(backend: PT, case: Case, device: torch.device) -> tuple[Any, CodeDecoder]:
    codes = CodeDecoder(TokenSelector(case.sampling, case.seeds, device), case.counts, case.guidance)
    return backend._open(codes.rows(case.prompts), codes.longest, []), codes
