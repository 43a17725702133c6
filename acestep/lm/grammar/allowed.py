"""Sets of allowed tokens, in the forms that differ in what they cost.

    Forced   one continuation      a prefill, no choice, no head
    Choice   a handful of ids      that many rows of the head
    Free     a mask of text        the whole head
    Done     nothing

No torch import until a mask is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from acestep.text.tokenizer import TEXT_VOCAB

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Forced:
    """The only continuation. A run followed by `Done` need not be computed at all."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few ids; `greedy`: the most probable of them, whatever the temperature."""

    ids: tuple[int, ...]
    greedy: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Free:
    """Any id where `mask` (bool, CPU, [TEXT_VOCAB]: no audio codes) is True."""

    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more."""


Allowed = Forced | Choice | Free | Done


@lru_cache(maxsize=256)
def allowed_mask(allowed: Forced | Choice | Free) -> torch.Tensor:
    """The same as a mask over the vocabulary (bool, CPU, [TEXT_VOCAB]).

    Of a Forced run it is the first id's. Masks are kept; do not write to them.
    """
    import torch

    if isinstance(allowed, Free):
        return allowed.mask
    mask = torch.zeros(TEXT_VOCAB, dtype=torch.bool)
    mask[list(allowed.ids[:1] if isinstance(allowed, Forced) else allowed.ids)] = True
    return mask
