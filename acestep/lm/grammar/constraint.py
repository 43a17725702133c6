"""The grammar of the chain of thought, as a state machine: which tokens may come next.

A thought is metadata, line by line in a fixed order. A plan stops where codes would begin; a description
closes the thought and goes on with lyrics:

    <think>⏎ bpm: …⏎ [caption: …⏎] duration: …⏎ keyscale: …⏎ [language: …⏎] timesignature: …⏎ <|im_end|>
    <think>⏎ bpm: …⏎ caption: …⏎ duration: …⏎ genres: …⏎ … timesignature: …⏎ </think> lyrics <|im_end|>

Nearly all of it is not a choice: names of fields, values the user gave, tokens with a single continuation.
The machine reports such a run whole (`Forced`), so that an engine appends it as one prefill instead of
decoding it token by token; where there is a choice it is among a handful of ids (`Choice`), and only
captions, genres and lyrics are open text (`Free`).

Each field is a trie over the token ids of its possible lines, which are exactly the lines
`Metadata.to_yaml` writes: the thought re-reads and re-writes to itself. A line ends in its newline, so
"30 is complete, 300 may follow" needs no rule of its own; both are branches of the trie.

    constraint = MetadataConstraint(tokenizer, Metadata(bpm=100), language=True)
    while not isinstance(allowed := constraint.allowed(peek), Done):
        constraint.advance(engine_continue(allowed))     # Forced ids, or one sampled id
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, Protocol

from acestep.lm.grammar.allowed import Allowed, Choice, Done, Forced
from acestep.lm.grammar.open_text import CAPTION_TOKENS, GENRES_TOKENS, Caption, Line, Lyrics, OpenText
from acestep.request import BPM_RANGE, DURATION_RANGE_S, KEYSCALES, LANGUAGES, TIME_SIGNATURES
from acestep.text.metadata import FIELDS, Metadata
from acestep.text.tokenizer import IM_END, NEWLINE, THINK, THINK_END, Tokenizer
from harness.errors import BenchError, UsageError

MIN_DURATION_S = 10
MAX_DURATION_S = int(DURATION_RANGE_S[1])

Trie = dict[int, "Trie"]  # an empty one is the end of a line


class Constraint(Protocol):
    """What may follow in one text, token after token; `MetadataConstraint` says what each is for."""

    @property
    def most_tokens(self) -> int: ...

    @property
    def done(self) -> bool: ...

    def allowed(self, peek: Callable[[], int]) -> Allowed: ...

    def certain(self) -> tuple[int, ...]: ...

    def advance(self, token_ids: Iterable[int]) -> None: ...


@dataclass(frozen=True, slots=True)
class _Step:
    """One part of the text: lines to choose from, as a trie, or open text."""

    name: str
    body: Trie | OpenText
    injected: bool = False  # the user's, not the model's


class MetadataConstraint:
    """A thought. The user's values are injected, the rest is the model's to choose.

    `caption`, `genres` and `language` say whether those lines appear; the other four always do. With
    `lyrics` it is a description: the thought is closed, they follow, and after its caption the model may
    go straight to a later field, though never past one that the user gave.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        user: Metadata,
        *,
        caption: bool = False,
        genres: bool = False,
        language: bool = False,
        max_duration_s: int = MAX_DURATION_S,
        caption_tokens: int | None = None,
        lyrics: Lyrics | None = None,
    ) -> None:
        if max_duration_s < MIN_DURATION_S:
            raise UsageError(f"max_duration_s: {max_duration_s} is not allowed; use {MIN_DURATION_S} or more")
        optional = {"caption": caption, "genres": genres, "language": language}
        most = {"duration": max_duration_s, "caption": caption_tokens or CAPTION_TOKENS}
        self._tokenizer = tokenizer
        self._skips = lyrics is not None
        self._steps = [_Step("", _trie([[THINK, NEWLINE]]), injected=True)]
        for name in FIELDS:
            if optional.get(name, True):
                self._steps += _field_steps(tokenizer, name, getattr(user, name), most)
        if lyrics is not None:
            self._steps += [_Step("", _trie([[THINK_END]]), injected=True), _Step("lyrics", lyrics)]
        self._steps.append(_Step("", _trie([[IM_END]]), injected=True))
        self._enter(0)

    @property
    def most_tokens(self) -> int:
        """The longest text there can be, in tokens."""
        bodies = [step.body for step in self._steps]
        return sum(_depth(body) if isinstance(body, dict) else body.most_tokens for body in bodies)

    @property
    def done(self) -> bool:
        """Whether the text is complete."""
        return self._index == len(self._steps)

    def allowed(self, peek: Callable[[], int]) -> Allowed:
        """What may follow. `peek()` is the most probable next token of all text; asked only where a
        caption may have ended, and changing nothing here."""
        if self.done:
            return Done()
        if not isinstance(self._node, dict):
            return self._node.allowed(peek) or self._after_text(self._node.closing)
        if run := self.certain():
            return Forced(run)
        return Choice(tuple(self._node), greedy=self._steps[self._index].name == "language")

    def certain(self) -> tuple[int, ...]:
        """Ids from here to the next choice, across as many fields as it takes; () inside open text."""
        return () if self.done else self._run(self._index, self._node)

    def advance(self, token_ids: Iterable[int]) -> None:
        """Follow what was said. Raises BenchError for an id that was not allowed, as is drawn of logits that
        are NaN: the sampler takes the first then, masked or not."""
        for token_id in token_ids:
            if self.done:
                self._refuse(token_id)
            if not isinstance(self._node, dict):
                if self._node.take(token_id):
                    continue
                self._leave_text(token_id)
            self._follow(token_id)

    def _enter(self, index: int) -> None:
        self._index = index
        self._node = {} if self.done else self._steps[index].body

    def _follow(self, token_id: int) -> None:
        node = self._node
        if not isinstance(node, dict) or token_id not in node:
            self._refuse(token_id)
        self._node = node[token_id]
        if not self._node:
            self._enter(self._index + 1)

    def _refuse(self, token_id: int) -> NoReturn:
        name = self._tokenizer.token_text(token_id)
        raise BenchError(
            f"lm: token {token_id} ({name!r}) was chosen and is not allowed here; are the logits NaN or "
            "infinite? download the weights again, or try --dtype fp32"
        )

    def _run(self, index: int, node: Trie | OpenText) -> tuple[int, ...]:
        """Ids from `node` of step `index` to the next choice."""
        ids = []
        while isinstance(node, dict) and len(node) == 1:
            [(token_id, node)] = node.items()
            ids.append(token_id)
            if not node:
                index += 1
                node = self._steps[index].body if index < len(self._steps) else {}
        return tuple(ids)

    # After open text, a description may choose among fields: by their first tokens, all different because
    # the names' first letters are.

    def _after_text(self, closing: tuple[int, ...]) -> Forced | Choice:
        following = self._following()
        if len(following) == 1:
            [index] = following
            return Forced(closing + self._run(index, self._steps[index].body))
        return Forced(closing) if closing else Choice(tuple(self._first(index) for index in following))

    def _leave_text(self, token_id: int) -> None:
        following = self._following()
        self._enter(next((i for i in following if self._first(i) == token_id), following[0]))

    def _following(self) -> list[int]:
        """Indices of the steps that may come after this open text."""
        first = self._index + 1
        if not (self._skips and self._steps[self._index].name == "caption"):
            return [first]
        later = list(enumerate(self._steps))[first:]
        last = next(index for index, step in later if step.injected)
        heads = (i for i, step in later if step.name and isinstance(step.body, dict))
        return [index for index in heads if index <= last]

    def _first(self, index: int) -> int:
        body = self._steps[index].body
        assert isinstance(body, dict)
        return next(iter(body))


def _trie(lines: Iterable[list[int]]) -> Trie:
    root: Trie = {}
    for ids in lines:
        node = root
        for token_id in ids:
            node = node.setdefault(token_id, {})
    return root


def _depth(trie: Trie) -> int:
    return 1 + max(map(_depth, trie.values())) if trie else 0


def _field_steps(
    tokenizer: Tokenizer, name: str, value: int | str | None, most: Mapping[str, int]
) -> list[_Step]:
    """One field's part of the text: its value injected, enumerated, or open. `most`: limits by name."""
    if value is not None:
        return [_Step(name, _field_trie(tokenizer, name, (value,)), injected=True)]
    if name in ("caption", "genres"):
        text = Caption(tokenizer, most["caption"]) if name == "caption" else Line(tokenizer, GENRES_TOKENS)
        return [_Step(name, _trie([tokenizer.encode(f"{name}:")])), _Step(name, text)]
    values = {
        "bpm": range(BPM_RANGE[0], BPM_RANGE[1] + 1),
        "duration": range(MIN_DURATION_S, most["duration"] + 1),
        "keyscale": KEYSCALES,
        "language": LANGUAGES,
        "timesignature": TIME_SIGNATURES,
    }
    return [_Step(name, _field_trie(tokenizer, name, tuple(values[name])))]


@lru_cache(maxsize=64)
def _field_trie(tokenizer: Tokenizer, name: str, values: tuple[int | str, ...]) -> Trie:
    """The lines `name: value` of all `values`."""
    return _trie(tokenizer.encode(Metadata(**{name: value}).to_yaml() + "\n") for value in values)  # type: ignore[arg-type]
