"""The grammar of a plan's metadata, against checkers that share no code with it.

Walks are held to a regular expression of the whole language; each position of one, to every document that
differs from the walked one in a single field. Each checker has a planted mistake it must catch.
"""

import random
import re
from dataclasses import replace

import pytest
from grammar import LINES, TOKENIZER, VALUES, choices_of, language_of, no_peek, users, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.lm.grammar import constraint as module
from acestep.lm.grammar.allowed import Choice, Done, Forced
from acestep.lm.grammar.constraint import MetadataConstraint
from acestep.text.metadata import Metadata, parse
from acestep.text.tokenizer import ENDOFTEXT, IM_END, NEWLINE, THINK
from harness.errors import UsageError


def check_phase_1(constraint, rng, user=None, *, caption=False, language=False):
    """One random walk: it ends, belongs to the language, and reads back as complete metadata."""
    *_, (ids, _) = walk(constraint, rng)
    text = TOKENIZER.decode(ids)
    assert [id_ for id_ in ids if id_ >= ENDOFTEXT] == [THINK, IM_END]
    assert re.fullmatch(language_of(caption, language), text), text[:200]
    metadata = parse(text)
    for name in LINES:
        given_value = getattr(user, name) if user else None
        if {"caption": caption, "genres": False, "language": language}.get(name, True):
            if name != "caption":
                assert getattr(metadata, name) in VALUES[name]
            assert given_value is None or getattr(metadata, name) == given_value
        else:
            assert getattr(metadata, name) is None
    if not caption:  # the one way to write this metadata, in the tokenizer's own tokens
        assert text == f"<think>\n{metadata.to_yaml()}\n<|im_end|>"
        assert ids == TOKENIZER.encode_prompt([THINK, text[len("<think>") : -len("<|im_end|>")], IM_END])


@settings(max_examples=300, deadline=None)
@given(users, st.booleans(), st.integers(0, 2**32))
def test_every_walk_is_valid_metadata(user, language, seed):
    constraint = MetadataConstraint(TOKENIZER, user, language=language)
    check_phase_1(constraint, random.Random(seed), user, language=language)


@settings(max_examples=30, deadline=None)
@given(users, st.booleans(), st.integers(0, 2**32))
def test_every_walk_with_a_caption_is_valid_metadata(user, language, seed):
    constraint = MetadataConstraint(TOKENIZER, user, caption=True, language=language)
    check_phase_1(constraint, random.Random(seed), user, caption=True, language=language)


class SkipsAField(MetadataConstraint):
    """A wrong transition: from the tempo straight to the key."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._steps = [step for step in self._steps if step.name != "duration"]


class StopsEarly(MetadataConstraint):
    def allowed(self, peek):
        allowed = super().allowed(peek)
        return Done() if isinstance(allowed, Forced) and IM_END in allowed.ids else allowed


class EndsLinesEarly(MetadataConstraint):
    """Puts a newline where a value is still incomplete."""

    def allowed(self, peek):
        allowed = super().allowed(peek)
        if isinstance(allowed, Choice) and NEWLINE not in allowed.ids:
            self._node = {NEWLINE: {}}
            return Choice((NEWLINE, NEWLINE))
        return allowed


@pytest.mark.parametrize("mutant", [SkipsAField, StopsEarly, EndsLinesEarly])
def test_the_walk_checker_sees_a_wrong_machine(mutant):
    with pytest.raises(AssertionError):
        check_phase_1(mutant(TOKENIZER, Metadata()), random.Random(0))


def next_ids(prefix, documents):
    return {ids[len(prefix)] for ids in documents if ids[: len(prefix)] == prefix}


def variants(song, names):
    """Ids of every phase-1 document that differs from `song` in at most one of the fields `names`."""
    songs = [replace(song, **{name: value}) for name in names for value in VALUES[name]]
    return [TOKENIZER.encode_prompt([THINK, f"\n{song.to_yaml()}\n", IM_END]) for song in songs]


def check_positions(constraint, names, rng):
    """At every position of a walk, exactly the tokens that some valid document has there."""
    steps = list(walk(constraint, rng))
    ids = steps[-1][0]
    documents = variants(parse(TOKENIZER.decode(ids)), names)
    for prefix, allowed in steps[:-1]:
        assert set(choices_of(allowed)) == next_ids(prefix, documents)
        for i in range(len(allowed.ids) if isinstance(allowed, Forced) else 0):
            assert next_ids([*prefix, *allowed.ids[:i]], documents) == {allowed.ids[i]}


@pytest.mark.parametrize("seed", range(4))
def test_masks_equal_brute_force_at_every_position(seed):
    constraint = MetadataConstraint(TOKENIZER, Metadata(), language=True)
    check_positions(constraint, list(VALUES), random.Random(seed))


def test_the_position_checker_sees_one_value_too_many(monkeypatch):
    monkeypatch.setattr(module, "TIME_SIGNATURES", ["2", "3", "4", "5", "6"])
    constraint = MetadataConstraint(TOKENIZER, Metadata(), language=True)
    with pytest.raises(AssertionError):
        check_positions(constraint, list(VALUES), random.Random(0))


def reachable(name, **limits):
    """Every value of one field that the machine can be led to, the others being given."""
    others = Metadata(100, None, 60, None, "C major", "en", "4")
    pending, values = [[]], []
    while pending:
        path = pending.pop()
        constraint = MetadataConstraint(TOKENIZER, replace(others, **{name: None}), language=True, **limits)
        chosen = iter(path)
        ids = []
        while not isinstance(allowed := constraint.allowed(no_peek), Done):
            if isinstance(allowed, Choice) and (id_ := next(chosen, None)) is None:
                pending += [[*path, id_] for id_ in allowed.ids]
                break
            new = [id_] if isinstance(allowed, Choice) else list(allowed.ids)
            constraint.advance(new)
            ids += new
        else:
            values.append(getattr(parse(TOKENIZER.decode(ids)), name))
    return sorted(values)


@pytest.mark.parametrize("name", VALUES)
def test_every_value_of_a_field_is_reachable_and_no_other(name):
    assert reachable(name) == sorted(VALUES[name])


def test_the_longest_duration_is_a_limit():
    assert reachable("duration", max_duration_s=240) == list(range(10, 241))
    with pytest.raises(UsageError, match="max_duration_s: 9 is not allowed; use 10 or more"):
        MetadataConstraint(TOKENIZER, Metadata(), max_duration_s=9)


def test_injected_values_appear_as_they_are():
    user = Metadata(28, "Slow: with `ticks`", 700, None, "H major", "no", "7/8")  # the user is always right
    constraint = MetadataConstraint(TOKENIZER, user, caption=True, language=True)
    allowed = constraint.allowed(no_peek)
    assert isinstance(allowed, Forced), "everything is given: one run, nothing to choose"
    assert TOKENIZER.decode(allowed.ids) == f"<think>\n{user.to_yaml()}\n<|im_end|>"
    assert parse(TOKENIZER.decode(allowed.ids)) == user
    constraint.advance(allowed.ids)
    assert constraint.allowed(no_peek) == Done()


def test_runs_between_choices_are_merged():
    constraint = MetadataConstraint(TOKENIZER, Metadata(bpm=120, duration=90))
    first = constraint.allowed(no_peek)
    assert isinstance(first, Forced)
    assert TOKENIZER.decode(first.ids) == "<think>\nbpm: 120\nduration: 90\nkeyscale:"


def test_only_the_language_is_greedy():
    constraint = MetadataConstraint(TOKENIZER, Metadata(), language=True)
    for prefix, allowed in walk(constraint, random.Random(1)):
        if isinstance(allowed, Choice):
            line = TOKENIZER.decode(prefix).rsplit("\n", 1)[1]
            assert allowed.greedy == line.startswith("language:")
