"""Thoughts against llguidance: a grammar engine that knows nothing of our tries, given the rules as text.

Both are walked side by side, and what we allow it must allow. Ours is narrower where a model was trained on
one way of writing: values in the tokenizer's own tokens, runs that are forced, fields in the order asked
for. It is wider in one place: pieces of characters, which llguidance strings together byte by byte.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from acestep.lm.grammar.allowed import Choice, Done, Forced, Free, allowed_mask
from acestep.lm.grammar.constraint import MetadataConstraint
from acestep.lm.grammar.open_text import Lyrics
from acestep.request import LANGUAGES
from acestep.text.metadata import Metadata
from acestep.text.tokenizer import (
    ENDOFTEXT,
    FIRST_CODE,
    IM_END,
    LM_VOCAB,
    NEWLINE,
    TEXT_VOCAB,
    THINK,
    THINK_END,
)
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer, tokenizer_files

llguidance = pytest.importorskip("llguidance", reason='needs the oracles: pip install -e ".[oracle]"')

TOKENIZER = synthetic_tokenizer("lm")
OTHERS = "|".join(sorted(set(LANGUAGES) - {"no"}))
LINES = {
    "bpm": "bpm: ([3-9][0-9]|[12][0-9][0-9]|300)",
    "caption": "caption:[ \\t][^`\\n]*(\\n[ \\t][^`\\n]*)*",
    "duration": "duration: ([1-9][0-9]|[1-5][0-9][0-9]|600)",
    "genres": "genres:[ \\t][^`\\n]*",
    "keyscale": "keyscale: [A-G][#b♯♭]? (major|minor)",
    "language": f"language: ({OTHERS}|'no')",
    "timesignature": "timesignature: [2346]",
}
PLAN = 'start: <[151667]> "\\n" bpm caption duration keyscale language timesignature <[151645]>\n'
DESCRIPTION = (
    'start: <[151667]> "\\n" bpm caption duration? genres? keyscale? language? timesignature? '
    "<[151668]> LYRICS <[151645]>\n"
    "LYRICS: /(.|\\n)*/\n"
)


@cache
def tokenizer() -> llguidance.LLTokenizer:
    text = tokenizer_files("text")["tokenizer.json"].decode()  # codes are in no grammar here
    return llguidance.LLTokenizer(text, n_vocab=LM_VOCAB, eos_token=IM_END, slices=[])


def oracle(start: str, lines: dict[str, str] = LINES) -> llguidance.LLMatcher:
    rules = "".join(f"{name}: /{line}\\n/\n" for name, line in lines.items() if name in start)
    return llguidance.LLMatcher(tokenizer(), llguidance.LLMatcher.grammar_from_lark(start + rules))


def mask(matcher: llguidance.LLMatcher) -> np.ndarray:
    """The oracle's allowed ids, bool `[TEXT_VOCAB]`."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, bitorder="little")[:TEXT_VOCAB].astype(bool)


@cache
def whole_characters() -> np.ndarray:
    """Ids that are codes, special, or text in whole characters."""
    return np.array([i >= ENDOFTEXT or "\ufffd" not in TOKENIZER.token_text(i) for i in range(TEXT_VOCAB)])


def walk(constraint: MetadataConstraint, matcher: llguidance.LLMatcher, seed: int) -> Iterator[object]:
    """Say anything we allow, asking the oracle at every position; yields what we allowed."""
    rng = random.Random(seed)

    def peek() -> int:
        return TOKENIZER.encode(rng.choice(["  and", "language"]))[0]

    while not isinstance(allowed := constraint.allowed(peek), Done):
        ours = allowed_mask(allowed).numpy() & whole_characters()
        theirs = mask(matcher)
        assert not (ours & ~theirs).any(), [TOKENIZER.token_text(i) for i in np.flatnonzero(ours & ~theirs)][
            :9
        ]
        yield allowed, ours, theirs
        if isinstance(allowed, Forced):
            chosen = list(allowed.ids)
        elif isinstance(allowed, Free) and allowed.mask[NEWLINE] and rng.random() < 0.2:
            chosen = [NEWLINE]
        else:
            chosen = [int(rng.choice(np.flatnonzero(ours)))]
        constraint.advance(chosen)
        assert matcher.consume_tokens(chosen), (TOKENIZER.decode(chosen), matcher.get_error())
    assert matcher.is_accepting() or matcher.is_stopped()


def planning() -> MetadataConstraint:
    return MetadataConstraint(TOKENIZER, Metadata(), caption=True, language=True)


def describing() -> MetadataConstraint:
    return MetadataConstraint(
        TOKENIZER, Metadata(), caption=True, genres=True, language=True, lyrics=Lyrics(20)
    )


@pytest.mark.parametrize("seed", range(6))
def test_what_a_plan_allows_llguidance_allows(seed: int) -> None:
    kinds = {type(step[0]) for step in walk(planning(), oracle(PLAN), seed)}
    assert kinds == {Forced, Choice, Free}


@pytest.mark.parametrize("seed", range(6))
def test_what_a_description_allows_llguidance_allows(seed: int) -> None:
    assert sum(1 for _ in walk(describing(), oracle(DESCRIPTION), seed)) > 20


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bpm", "bpm: ([3-9][0-9]|1[0-9][0-9]|300)"),
        ("caption", "caption:[ \\t][^`,\\n]*(\\n[ \\t][^`\\n]*)*"),
        ("caption", "caption:[ \\t][^`\\n]*"),
        ("keyscale", "keyscale: [A-F][#b♯♭]? (major|minor)"),
        ("language", LINES["language"].replace("|la|", "|")),
        ("timesignature", "timesignature: [234]"),
    ],
)
def test_a_narrower_grammar_is_noticed(name: str, line: str) -> None:
    with pytest.raises(AssertionError):
        for seed in range(20):
            list(walk(planning(), oracle(PLAN, LINES | {name: line}), seed))


def test_inside_open_text_the_masks_are_equal() -> None:
    """But for tags in words, such as `<think>`, which are ids to us and also their letters to llguidance."""
    compared = 0
    for allowed, ours, theirs in walk(describing(), oracle(DESCRIPTION), 0):
        if isinstance(allowed, Free) and allowed.mask[NEWLINE]:
            text = whole_characters() & (np.arange(TEXT_VOCAB) < ENDOFTEXT)
            assert np.array_equal(ours & text, theirs & text)
            assert not ours[FIRST_CODE:].any() and not ours[[THINK, THINK_END]].any()
            compared += 1
    assert compared > 20


def spelled(name: str, lines: dict[str, str] = LINES) -> set[str]:
    """Every line of field `name` that the oracle accepts, found character by character."""
    matcher = oracle(f"start: {name}\n", lines)
    characters = {char: TOKENIZER.encode(char) for char in [*map(chr, range(32, 127)), *"♯♭\n"]}

    def follow(text: str) -> set[str]:
        if text.endswith("\n"):
            return {text}
        spellings = set()
        for char, ids in characters.items():
            if matcher.validate_tokens(ids) == len(ids):
                matcher.consume_tokens(ids)
                spellings |= follow(text + char)
                matcher.rollback(len(ids))
        return spellings

    return follow("")


def reachable(name: str) -> set[str]:
    """Every line of field `name` that our machine can be led to, the others being given."""
    given = Metadata(100, None, 60, None, "C major", "en", "4")
    pending = [(MetadataConstraint(TOKENIZER, replace(given, **{name: None}), language=True), [])]
    lines = set()
    while pending:
        constraint, ids = pending.pop()
        allowed = constraint.allowed(lambda: NEWLINE)
        if isinstance(allowed, Done):
            [line] = (x for x in TOKENIZER.decode(ids).splitlines(True) if x.startswith(name))
            lines.add(line)
            continue
        for run in [allowed.ids] if isinstance(allowed, Forced) else [(id_,) for id_ in allowed.ids]:
            further = copy(constraint)
            further.advance(run)
            pending.append((further, [*ids, *run]))
    return lines


@pytest.mark.parametrize("name", ["bpm", "duration", "keyscale", "language", "timesignature"])
def test_the_lines_of_a_field_are_the_same(name: str) -> None:
    lines = spelled(name)
    assert reachable(name) == lines
    assert (
        len(lines) == {"bpm": 271, "duration": 591, "keyscale": 70, "language": 51, "timesignature": 4}[name]
    )


def test_one_line_more_is_noticed() -> None:
    assert reachable("bpm") != spelled("bpm", LINES | {"bpm": LINES["bpm"].replace("300", "301")})
