"""Unconstrained decoding: text without the grammar, to see what the grammar costs and what it is good for.

The model says what it likes until it ends its turn. What it wrote is read as if it were a thought, and only
values the grammar would have allowed are taken. Audio codes are counted by the duration in any case, so the
work stays the request's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

from acestep.lm.grammar.allowed import Done, Forced, Free
from acestep.lm.grammar.constraint import MIN_DURATION_S
from acestep.request import BPM_RANGE, KEYSCALES, LANGUAGES, TIME_SIGNATURES
from acestep.text.metadata import Metadata
from acestep.text.tokenizer import ENDOFTEXT, IM_END, TEXT_VOCAB, THINK, THINK_END

MOST_THOUGHT_TOKENS = 640  # what a thought with the longest caption may take under the grammar


class Unconstrained:
    """Any text, at most `limit` tokens before its end. Stands where a `MetadataConstraint` would."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self.most_tokens = limit + 1
        self.done = False

    def allowed(self, peek: Callable[[], int]) -> Forced | Free | Done:
        if self.done:
            return Done()
        return _any_text() if self._left else Forced((IM_END,))

    def certain(self) -> tuple[int, ...]:
        return () if self.done or self._left else (IM_END,)

    def advance(self, token_ids: Iterable[int]) -> None:
        for token_id in token_ids:
            self.done = token_id == IM_END
            self._left -= not self.done


def plausible(parsed: Metadata, max_duration_s: int) -> Metadata:
    """`parsed` without the values no grammar would have let pass."""
    known = {
        "bpm": range(BPM_RANGE[0], BPM_RANGE[1] + 1),
        "duration": range(MIN_DURATION_S, max_duration_s + 1),
        "keyscale": KEYSCALES,
        "language": LANGUAGES,
        "timesignature": TIME_SIGNATURES,
    }
    return replace(
        parsed, **{name: None for name, values in known.items() if getattr(parsed, name) not in values}
    )


@cache
def _any_text() -> Free:
    import torch

    mask = torch.zeros(TEXT_VOCAB, dtype=torch.bool)
    mask[:ENDOFTEXT] = True
    mask[[THINK, THINK_END, IM_END]] = True
    return Free(mask)
