"""The open texts of the grammar: captions, and descriptions with their genres and lyrics.

A caption's masks are held, token by token, to a regular expression of the whole language, and walks of a
description to one of its own, whose checker has a planted mistake it must catch.
"""

import random
import re

import pytest
from grammar import LINES, TOKENIZER, VALUES, choices_of, language_of, no_peek, peek_at, text_of, users, walk
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.lm.grammar.allowed import Choice, Done, Forced, Free, allowed_mask
from acestep.lm.grammar.constraint import MetadataConstraint
from acestep.lm.grammar.open_text import CAPTION_TOKENS, GENRES_TOKENS, Lyrics
from acestep.text.metadata import Metadata, parse
from acestep.text.tokenizer import ENDOFTEXT, FIRST_CODE, IM_END, NEWLINE, THINK, THINK_END
from harness.errors import BenchError

# Captions: open text, whose end the model decides.


def in_caption(text, **user):
    """A machine that has said everything up to `text` inside the caption."""
    constraint = MetadataConstraint(TOKENIZER, Metadata(bpm=100, **user), caption=True)
    head = constraint.allowed(no_peek)
    assert TOKENIZER.decode(head.ids).endswith("caption:")
    constraint.advance(head.ids)
    constraint.advance(TOKENIZER.encode(text))
    return constraint


@pytest.mark.parametrize("text", ["", " A slow song", " A slow song.\n", " A slow song.\n  and more"])
def test_caption_masks_equal_brute_force(text):
    regex = pytest.importorskip("regex")
    allowed = in_caption(text).allowed(peek_at("  and"))
    pattern = regex.compile(language_of(True, False))
    said = "<think>\nbpm: 100\ncaption:" + text
    begins = text.endswith("\n")  # the model goes on, so a next field does not count
    for token_id, allows in enumerate(allowed_mask(allowed).tolist()):
        token = text_of(token_id)
        fits = (not begins or token[0] in " \t") and pattern.fullmatch(said + token, partial=True)
        assert allows == bool(fits), token


def test_a_caption_ends_where_the_model_stops_indenting():
    constraint = in_caption(" One\n", duration=60, keyscale="A minor")
    assert isinstance(constraint.allowed(peek_at("  two")), Free)
    ended = constraint.allowed(peek_at("keyscale"))
    assert isinstance(ended, Forced), "whatever the model would name, the fields keep their order"
    assert TOKENIZER.decode(ended.ids).startswith("duration: 60\nkeyscale: A minor\ntimesignature:")
    assert constraint.allowed(lambda: THINK_END) == ended == constraint.allowed(lambda: IM_END)
    constraint.advance(ended.ids)
    assert isinstance(constraint.allowed(no_peek), Choice)


@pytest.mark.parametrize("last", [" far", "\n"])
def test_a_caption_has_a_longest_length(last):
    constraint = in_caption("")
    (filler,), (last_id,) = TOKENIZER.encode(" a"), TOKENIZER.encode(last)
    for _ in range(CAPTION_TOKENS - 1):
        assert isinstance(constraint.allowed(no_peek), Free)
        constraint.advance([filler])
    constraint.advance([last_id])
    forced = constraint.allowed(no_peek)
    assert isinstance(forced, Forced)
    assert TOKENIZER.decode(forced.ids) == ("" if last == "\n" else "\n") + "duration: "
    constraint.advance(forced.ids)
    assert isinstance(constraint.allowed(no_peek), Choice)


# Descriptions: every field, a closed thought, and lyrics; a caption may be followed by any later field.


def description(user=None, lyrics=None):
    lyrics = lyrics or Lyrics(30)
    return MetadataConstraint(
        TOKENIZER, user or Metadata(), caption=True, genres=True, language=True, lyrics=lyrics
    )


def check_description(constraint, rng, user):
    """One random walk: fields in order, skipped only between a caption and the next one given."""
    *_, (ids, _) = walk(constraint, rng)
    assert len(ids) <= constraint.most_tokens
    assert [id_ for id_ in ids if id_ >= ENDOFTEXT] == [THINK, THINK_END, IM_END]
    thought, song = TOKENIZER.decode(ids[: ids.index(THINK_END)]), ids[ids.index(THINK_END) + 1 :]
    lines = "".join(
        LINES[name] if name in ("bpm", "caption") or getattr(user, name) else f"(?:{LINES[name]})?"
        for name in LINES
    )
    assert re.fullmatch("<think>\n" + lines, thought), thought[:200]
    assert thought.count("\n") > 2, "at least one field follows the caption"
    assert len(song) - 1 <= 30
    metadata = parse(thought)
    for name in VALUES:
        value = getattr(metadata, name)
        assert value in VALUES[name] or (value is None and name != "bpm")
        assert getattr(user, name) in (None, value)
    return metadata


@settings(max_examples=30, deadline=None)
@given(users, st.integers(0, 2**32))
def test_every_walk_of_a_description_reads_back(user, seed):
    check_description(description(user), random.Random(seed), user)


def test_the_description_checker_sees_a_skipped_gift():
    user = Metadata(keyscale="A minor")
    with pytest.raises(AssertionError):
        for seed in range(20):
            check_description(description(), random.Random(seed), user)


def test_after_a_caption_a_description_may_go_to_any_later_field():
    skipped = set()
    for seed in range(40):
        metadata = check_description(description(), random.Random(seed), Metadata())
        skipped |= {
            name for name in ("duration", "genres", "keyscale", "language") if not getattr(metadata, name)
        }
    assert skipped == {"duration", "genres", "keyscale", "language"}


def say(constraint, *texts):
    """Lead `constraint` through its forced runs and `texts`; what is allowed then."""
    for text in texts:
        while isinstance(allowed := constraint.allowed(no_peek), Forced):
            constraint.advance(allowed.ids)
        constraint.advance(TOKENIZER.encode(text))
    return constraint


def named(constraint):
    """Names of the fields that may follow the caption."""
    allowed = constraint.allowed(peek_at("x"))
    ids = allowed.ids[:1] if isinstance(allowed, Forced) else allowed.ids
    names = ("duration", "genres", "keyscale", "language", "timesignature")
    return [name for name in names if TOKENIZER.encode(f"{name}:")[0] in ids]


def test_nothing_that_is_given_can_be_skipped():
    assert named(say(description(Metadata(bpm=60)), " A\n")) == [
        "duration", "genres", "keyscale", "language", "timesignature",
    ]  # fmt: skip
    assert named(say(description(Metadata(60, keyscale="A minor")), " A\n")) == [
        "duration", "genres", "keyscale",
    ]  # fmt: skip
    assert named(say(description(Metadata(60, duration=20)), " A\n")) == ["duration"]
    plan = MetadataConstraint(TOKENIZER, Metadata(60), caption=True, language=True)
    assert named(say(plan, " A\n")) == ["duration"], "a plan needs every field"


def test_genres_are_one_line_of_limited_length():
    user = Metadata(60, "A song", 20, None, "A minor", "en", "4")
    ended = say(description(user), " house, techno.\n").allowed(no_peek)
    assert TOKENIZER.decode(ended.ids) == "keyscale: A minor\nlanguage: en\ntimesignature: 4\n</think>"
    full = say(description(user), " a" * GENRES_TOKENS).allowed(no_peek)
    assert TOKENIZER.decode(full.ids).startswith("\nkeyscale")
    inside = say(description(user), " a").allowed(no_peek)
    assert not any("\n" in text_of(i)[:-1] or "`" in text_of(i) for i in choices_of(inside))
    assert NEWLINE in choices_of(inside)


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_lyrics_are_any_text_of_limited_length(ignore_eos):
    user = Metadata(60, "A song", 20, "pop", "A minor", "en", "4")
    constraint = description(user, Lyrics(3, ignore_eos=ignore_eos))
    allowed = say(constraint, "`\n").allowed(no_peek)
    assert choices_of(allowed) == [*range(ENDOFTEXT), *([] if ignore_eos else [IM_END])]
    constraint.advance(TOKENIZER.encode("a"))
    assert constraint.allowed(no_peek) == Forced((IM_END,))
    with pytest.raises(BenchError, match="is not allowed here"):
        constraint.advance(TOKENIZER.encode("a"))
    constraint.advance([IM_END])
    assert constraint.done and constraint.allowed(no_peek) == Done()


def test_what_is_certain_after_a_choice_is_known_at_once():
    plan = MetadataConstraint(TOKENIZER, Metadata(keyscale="A minor"), max_duration_s=99)
    certain = say(plan, "100\n", "10").certain()
    assert TOKENIZER.decode(certain) == "\nkeyscale: A minor\ntimesignature: "
    plan.advance(certain)
    assert plan.certain() == () == in_caption(" One\n").certain()


@pytest.mark.parametrize("token", [IM_END, FIRST_CODE, THINK_END, NEWLINE])
def test_advance_refuses_what_was_not_allowed(token):
    for constraint in (MetadataConstraint(TOKENIZER, Metadata()), in_caption(" One\n")):
        with pytest.raises(BenchError, match=rf"token {token} .* is not allowed here"):
            constraint.advance([token])
