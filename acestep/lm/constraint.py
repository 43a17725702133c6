"""What the language model may say next: the grammar of both planning phases, as state machines.

Phase 1 writes the metadata, line by line in a fixed order, and stops before codes would begin:

    <think>⏎ bpm: …⏎ [caption: …⏎] duration: …⏎ keyscale: …⏎ [language: …⏎] timesignature: …⏎ <|im_end|>

Phase 2 writes audio codes. Nearly all of phase 1 is not a choice: names of fields, values the user gave,
tokens with a single continuation. The machine reports such a run whole (`Forced`), so that an engine
appends it as one prefill instead of decoding it token by token; where there is a choice it is among a
handful of ids (`Choice`), and only a caption is open text (`Free`).

Each field is a trie over the token ids of its possible lines, which are exactly the lines
`Metadata.to_yaml` writes: the thought re-reads and re-writes to itself. A line ends in its newline, so
"30 is complete, 300 may follow" needs no rule of its own; both are branches of the trie.

    constraint = MetadataConstraint(tokenizer, Metadata(bpm=100), language=True)
    while not isinstance(allowed := constraint.allowed(peek), Done):
        constraint.advance(engine_continue(allowed))     # Forced ids, or one sampled id
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from acestep.audio_codes import CODES
from acestep.errors import UsageError
from acestep.lm.metadata import FIELDS, Metadata
from acestep.request import BPM_RANGE, KEYSCALES, LANGUAGES, TIME_SIGNATURES
from acestep.tokenizer import ENDOFTEXT, FIRST_CODE, IM_END, LM_VOCAB, NEWLINE, THINK, Tokenizer

if TYPE_CHECKING:
    import torch

MIN_DURATION_S = 10
CAPTION_TOKENS = 512  # at most, then the line is ended

Trie = dict[int, "Trie"]  # an empty one is the end of a line


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
    """Any id where `mask` (bool, CPU, [LM_VOCAB]) is True."""

    mask: torch.Tensor


@dataclass(frozen=True, slots=True)
class Codes:
    """Any valid audio code: FIRST_CODE .. FIRST_CODE + CODES - 1; with `eos`, IM_END as well."""

    eos: bool


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more."""


Allowed = Forced | Choice | Free | Codes | Done


@dataclass(frozen=True, slots=True)
class _Step:
    """One part of the text: a field's lines as a trie, or the open text of a caption (None)."""

    name: str
    trie: Trie | None


class MetadataConstraint:
    """Phase 1. The user's values are injected, the rest is the model's to choose.

    `caption` and `language` say whether those two lines appear; the other four always do.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        user: Metadata,
        *,
        caption: bool = False,
        language: bool = False,
        max_duration_s: int = 600,
    ) -> None:
        if max_duration_s < MIN_DURATION_S:
            raise UsageError(f"max_duration_s: {max_duration_s} is not allowed; use {MIN_DURATION_S} or more")
        optional = {"caption": caption, "language": language}
        self._tokenizer = tokenizer
        self._steps = [_Step("", _trie([[THINK, NEWLINE]]))]
        for name in FIELDS:
            if optional.get(name, True):
                self._steps += _field_steps(tokenizer, name, getattr(user, name), max_duration_s)
        self._steps.append(_Step("", _trie([[IM_END]])))
        self._enter(0)
        self._caption_tokens = 0
        self._line_start = True  # in a caption: the next token begins a line, or the value

    def allowed(self, peek: Callable[[], int]) -> Forced | Choice | Free | Done:
        """What may follow. `peek()` is the model's most probable next token of all; asked only where a
        caption may have ended, and changing nothing here."""
        if self._index == len(self._steps):
            return Done()
        if self._node is None:
            return self._allowed_in_caption(peek)
        if run := self._forced_run(self._index, self._node):
            return Forced(run)
        return Choice(tuple(self._node), greedy=self._steps[self._index].name == "language")

    def advance(self, token_ids: Iterable[int]) -> None:
        """Follow what was said. Raises ValueError for an id that was not allowed."""
        for token_id in token_ids:
            if not self._continues_caption(token_id):
                self._follow(token_id)

    def _enter(self, index: int) -> None:
        self._index = index
        self._node = self._trie_of(index)

    def _trie_of(self, index: int) -> Trie | None:
        """None for the open text of a caption, and after the last step."""
        return self._steps[index].trie if index < len(self._steps) else None

    def _follow(self, token_id: int) -> None:
        if self._node is None or token_id not in self._node:
            name = self._tokenizer.token_text(token_id)
            raise ValueError(
                f"token {token_id} ({name!r}) is not allowed here; advance by what allowed() gave"
            )
        self._node = self._node[token_id]
        if not self._node:
            self._enter(self._index + 1)

    def _forced_run(self, index: int, node: Trie | None) -> tuple[int, ...]:
        """Ids from `node` of step `index` to the next choice, across as many fields as it takes."""
        ids = []
        while node is not None and len(node) == 1:
            [(token_id, node)] = node.items()
            ids.append(token_id)
            if not node:
                index += 1
                node = self._trie_of(index)
        return tuple(ids)

    # A caption goes on over indented lines, as YAML folds it. After a newline the model's own next token
    # tells whether it goes on: indentation does, anything else means the next field.

    def _allowed_in_caption(self, peek: Callable[[], int]) -> Forced | Free:
        text, indented = _caption_masks(self._tokenizer)
        full = self._caption_tokens >= CAPTION_TOKENS
        if self._line_start:
            if self._caption_tokens == 0 or (not full and self._is_indented(peek())):
                return indented
        elif not full:
            return text
        after = self._forced_run(self._index + 1, self._trie_of(self._index + 1))
        return Forced(after if self._line_start else (NEWLINE, *after))

    def _continues_caption(self, token_id: int) -> bool:
        """Take `token_id` as caption text; False, and on to the next field, when it is not."""
        if self._node is not None or self._index == len(self._steps):
            return False
        if token_id >= ENDOFTEXT or (self._line_start and not self._is_indented(token_id)):
            self._enter(self._index + 1)
            return False
        self._caption_tokens += 1
        self._line_start = self._tokenizer.token_text(token_id).endswith("\n")
        return True

    def _is_indented(self, token_id: int) -> bool:
        return self._tokenizer.token_text(token_id).startswith((" ", "\t"))


class CodesConstraint:
    """Phase 2: audio codes, exactly `target` of them when it is given, then IM_END."""

    def __init__(self, target: int | None) -> None:
        self._target = target
        self._count = 0
        self._ended = False

    def allowed(self) -> Codes | Forced | Done:
        """What may follow."""
        if self._ended:
            return Done()
        if self._target is None:
            return Codes(eos=True)
        return Codes(eos=False) if self._count < self._target else Forced((IM_END,))

    def advance(self, token_ids: Iterable[int]) -> None:
        """Follow what was said. Raises ValueError for an id that was not allowed."""
        for token_id in token_ids:
            allowed = self.allowed()
            if token_id == IM_END:
                legal = isinstance(allowed, Forced) or (isinstance(allowed, Codes) and allowed.eos)
            else:
                legal = isinstance(allowed, Codes) and FIRST_CODE <= token_id < FIRST_CODE + CODES
            if not legal:
                raise ValueError(f"token {token_id} is not allowed here; advance by what allowed() gave")
            self._ended = token_id == IM_END
            self._count += not self._ended


@lru_cache(maxsize=256)
def allowed_mask(allowed: Forced | Choice | Free | Codes) -> torch.Tensor:
    """The same as a mask over the vocabulary (bool, CPU, [LM_VOCAB]), for engines that need one.

    Of a Forced run it is the first id's. Masks are kept; do not write to them.
    """
    import torch

    if isinstance(allowed, Free):
        return allowed.mask
    mask = torch.zeros(LM_VOCAB, dtype=torch.bool)
    if isinstance(allowed, Codes):
        mask[FIRST_CODE : FIRST_CODE + CODES] = True
        mask[IM_END] = allowed.eos
    else:
        mask[list(allowed.ids[:1] if isinstance(allowed, Forced) else allowed.ids)] = True
    return mask


def _trie(lines: Iterable[list[int]]) -> Trie:
    root: Trie = {}
    for ids in lines:
        node = root
        for token_id in ids:
            node = node.setdefault(token_id, {})
    return root


def _field_steps(
    tokenizer: Tokenizer, name: str, given: int | str | None, max_duration_s: int
) -> list[_Step]:
    """One field's part of the text: its value injected, enumerated, or (a caption) open."""
    if given is not None:
        return [_Step(name, _field_trie(tokenizer, name, (given,)))]
    if name == "caption":
        return [_Step(name, _trie([tokenizer.encode("caption:")])), _Step(name, None)]
    values = {
        "bpm": range(BPM_RANGE[0], BPM_RANGE[1] + 1),
        "duration": range(MIN_DURATION_S, max_duration_s + 1),
        "keyscale": KEYSCALES,
        "language": LANGUAGES,
        "timesignature": TIME_SIGNATURES,
    }
    return [_Step(name, _field_trie(tokenizer, name, tuple(values[name])))]


@lru_cache(maxsize=64)
def _field_trie(tokenizer: Tokenizer, name: str, values: tuple[int | str, ...]) -> Trie:
    """The lines `name: value` of all `values`."""
    return _trie(tokenizer.encode(Metadata(**{name: value}).to_yaml() + "\n") for value in values)  # type: ignore[arg-type]


CAPTION_TOKEN = re.compile(r"(?:[^`\n]|\n(?=[ \t]|\Z))+")


@lru_cache(maxsize=4)
def _caption_masks(tokenizer: Tokenizer) -> tuple[Free, Free]:
    """Tokens that may go on inside a caption's line, and those that may begin one.

    No backticks (upstream's rule), no special tokens or codes, and nothing after a newline but the
    indentation of the next line.
    """
    import torch

    texts = [tokenizer.token_text(token_id) for token_id in range(ENDOFTEXT)]
    inside = [CAPTION_TOKEN.fullmatch(text) is not None for text in texts]
    begins = [ok and text[0] in " \t" for ok, text in zip(inside, texts, strict=True)]
    masks = torch.zeros(2, LM_VOCAB, dtype=torch.bool)
    masks[:, :ENDOFTEXT] = torch.tensor([inside, begins])
    return Free(masks[0]), Free(masks[1])
