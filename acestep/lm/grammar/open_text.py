"""Grammars of open text: the caption and the genres of a chain of thought, and the lyrics after it.

Whatever a text is, it holds no special token and no audio code, so nothing in it can end a turn. A field's
text sits on the line of its name; a caption goes on over indented lines, as YAML folds it. After a newline
the model's own next token tells whether it goes on: indentation does, anything else means the next field.

Each is used once, and asked in turn: `allowed` for a mask, `take` with what was said. It is over when
`allowed` gives None or `take` refuses a token; `closing` is what then still has to be said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from acestep.lm.grammar.allowed import Free
from acestep.text.tokenizer import ENDOFTEXT, IM_END, NEWLINE, TEXT_VOCAB, Tokenizer

CAPTION_TOKENS = 512  # at most, then the line is ended
GENRES_TOKENS = 64


class Line:
    """Open text to the end of its line, at most `limit` tokens and the newline.

    No backticks (upstream's rule), and white space first.
    """

    token = re.compile(r"[^`\n]*\n?")
    folds = False  # whether indented lines may follow

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self._begin, self._inside = _line_masks(tokenizer, self.token)
        self._tokenizer = tokenizer
        self._limit = limit
        self._said = 0
        self._line_start = True  # the next token begins a line, or the value
        self.most_tokens = limit + 1

    @property
    def closing(self) -> tuple[int, ...]:
        return () if self._line_start else (NEWLINE,)

    def allowed(self, peek: Callable[[], int]) -> Free | None:
        full = self._said >= self._limit
        if not self._line_start:
            return None if full else self._inside
        if self._said == 0:
            return self._begin
        goes_on = self.folds and not full and self._tokenizer.token_text(peek()).startswith((" ", "\t"))
        return self._begin if goes_on else None

    def take(self, token_id: int) -> bool:
        over = self._line_start and self._said > 0 and not (self.folds and self._said < self._limit)
        mask = self._begin.mask if self._line_start else self._inside.mask
        if over or token_id >= ENDOFTEXT or not mask[token_id]:
            return False
        self._said += 1
        self._line_start = self._tokenizer.token_text(token_id).endswith("\n")
        return True


class Caption(Line):
    """Open text over as many lines as the model indents; nothing else comes after a newline."""

    token = re.compile(r"(?:[^`\n]|\n(?=[ \t]|\Z))*")
    folds = True


class Lyrics:
    """Any text, at most `limit` tokens, until IM_END; `ignore_eos`: exactly `limit`."""

    closing = ()

    def __init__(self, limit: int, *, ignore_eos: bool = False) -> None:
        self._free = _text_mask(not ignore_eos)
        self._limit = limit
        self._said = 0
        self.most_tokens = limit

    def allowed(self, peek: Callable[[], int]) -> Free | None:
        return self._free if self._said < self._limit else None

    def take(self, token_id: int) -> bool:
        if token_id >= ENDOFTEXT or self._said >= self._limit:
            return False
        self._said += 1
        return True


OpenText = Line | Lyrics


@lru_cache(maxsize=1)
def _texts(tokenizer: Tokenizer) -> list[str]:
    """The text of each token."""
    return [tokenizer.token_text(token_id) for token_id in range(ENDOFTEXT)]


@lru_cache(maxsize=4)
def _line_masks(tokenizer: Tokenizer, token: re.Pattern[str]) -> tuple[Free, Free]:
    """Tokens that may begin a line, and those that may go on inside it."""
    import torch

    texts = _texts(tokenizer)
    inside = [text != "" and token.fullmatch(text) is not None for text in texts]
    begin = [fits and text[0] in " \t" for fits, text in zip(inside, texts, strict=True)]
    masks = torch.zeros(2, TEXT_VOCAB, dtype=torch.bool)
    masks[:, :ENDOFTEXT] = torch.tensor([begin, inside])
    return Free(masks[0]), Free(masks[1])


@lru_cache(maxsize=2)
def _text_mask(may_end: bool) -> Free:
    import torch

    mask = torch.zeros(TEXT_VOCAB, dtype=torch.bool)
    mask[:ENDOFTEXT] = True
    mask[IM_END] = may_end
    return Free(mask)
