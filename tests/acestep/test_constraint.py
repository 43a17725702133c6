"""The grammar of metadata, against checkers that share no code with it.

Phase 1 is checked by a regular expression of the whole language, and position by position against every
document that differs from the walked one in one field. Each checker has a planted mistake it must catch.
"""

import random
import re
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acestep.errors import UsageError
from acestep.lm import constraint as module
from acestep.lm.allowed import Choice, Done, Forced, Free, allowed_mask
from acestep.lm.constraint import MetadataConstraint
from acestep.lm.metadata import Metadata, parse
from acestep.lm.open_text import CAPTION_TOKENS, GENRES_TOKENS, Lyrics
from acestep.request import LANGUAGES
from acestep.synthetic_tokenizer import synthetic_tokenizer
from acestep.tokenizer import ENDOFTEXT, FIRST_CODE, IM_END, NEWLINE, THINK, THINK_END

TOKENIZER = synthetic_tokenizer("lm")
OTHER = "\U0010ffff"  # stands for a special token inside a caption
# The lines of a thought, from their description.
LINES = {
    "bpm": r"bpm: (?:[3-9]\d|[12]\d\d|300)\n",
    "caption": rf"caption:[ \t][^`\n{OTHER}]*\n(?:[ \t][^`\n{OTHER}]*\n)*",
    "duration": r"duration: (?:[1-9]\d|[1-5]\d\d|600)\n",
    "genres": rf"genres:[ \t][^`\n{OTHER}]*\n",
    "keyscale": r"keyscale: [A-G][#b♯♭]? (?:major|minor)\n",
    "language": rf"language: (?:{'|'.join(set(LANGUAGES) - {'no'})}|'no')\n",
    "timesignature": r"timesignature: [2346]\n",
}
VALUES = {
    "bpm": range(30, 301),
    "duration": range(10, 601),
    "keyscale": [f"{n}{a} {m}" for n in "ABCDEFG" for a in ("", *"#b♯♭") for m in ("major", "minor")],
    "language": LANGUAGES,
    "timesignature": list("2346"),
}


def language_of(caption, language):
    shown = {"caption": caption, "genres": False, "language": language}
    return "<think>\n" + "".join(LINES[name] for name in LINES if shown.get(name, True)) + r"<\|im_end\|>"


def text_of(token_id):
    return TOKENIZER.token_text(token_id) if token_id < ENDOFTEXT else OTHER


def no_peek():
    raise AssertionError("peeked where the model's opinion is not needed")


@cache
def choices_of(allowed):
    return allowed_mask(allowed).nonzero().flatten().tolist()


def walk(constraint, rng, newlines=0.1):
    """Say something allowed until done; yields the ids so far and what is allowed then.

    Uniform over choices, except that captions get newlines, and ends, often enough to be worth a walk.
    """

    def peek():
        assert isinstance(previous, Free), "peeked where the model's opinion is not needed"
        return TOKENIZER.encode(rng.choice(["  and", "duration"]))[0]

    ids, previous = [], None
    while not isinstance(allowed := constraint.allowed(peek), Done):
        yield list(ids), allowed
        assert not (isinstance(allowed, Forced) and isinstance(previous, Forced)), "a forced run was cut"
        if isinstance(allowed, Forced):
            chosen = list(allowed.ids)
        elif isinstance(allowed, Choice):
            assert len(allowed.ids) > 1, "a choice of one is no choice"
            chosen = [rng.choice(allowed.ids)]
        else:
            at_newline = allowed.mask[NEWLINE] and rng.random() < newlines
            chosen = [NEWLINE if at_newline else rng.choice(choices_of(allowed))]
        constraint.advance(chosen)
        ids += chosen
        previous = allowed
    yield ids, allowed


def check_phase_1(constraint, rng, user=None, *, caption=False, language=False):
    """One random walk: it ends, belongs to the language, and reads back as complete metadata."""
    *_, (ids, _) = walk(constraint, rng)
    text = TOKENIZER.decode(ids)
    assert [id_ for id_ in ids if id_ >= ENDOFTEXT] == [THINK, IM_END]
    assert re.fullmatch(language_of(caption, language), text), text[:200]
    found = parse(text)
    for name in LINES:
        given_value = getattr(user, name) if user else None
        if {"caption": caption, "genres": False, "language": language}.get(name, True):
            if name != "caption":
                assert getattr(found, name) in VALUES[name]
            assert given_value is None or getattr(found, name) == given_value
        else:
            assert getattr(found, name) is None
    if not caption:  # the one way to write this metadata, in the tokenizer's own tokens
        assert text == f"<think>\n{found.to_yaml()}\n<|im_end|>"
        assert ids == TOKENIZER.encode_prompt([THINK, text[len("<think>") : -len("<|im_end|>")], IM_END])


users = st.builds(
    Metadata,
    bpm=st.none() | st.sampled_from(VALUES["bpm"]),
    duration=st.none() | st.sampled_from(VALUES["duration"]),
    keyscale=st.none() | st.sampled_from(VALUES["keyscale"]),
    language=st.none() | st.sampled_from(VALUES["language"]),
    timesignature=st.none() | st.sampled_from(VALUES["timesignature"]),
)


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
    pending, found = [[]], []
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
            found.append(getattr(parse(TOKENIZER.decode(ids)), name))
    return sorted(found)


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


# Captions: open text, whose end the model decides.


def in_caption(text, **user):
    """A machine that has said everything up to `text` inside the caption."""
    constraint = MetadataConstraint(TOKENIZER, Metadata(bpm=100, **user), caption=True)
    head = constraint.allowed(no_peek)
    assert TOKENIZER.decode(head.ids).endswith("caption:")
    constraint.advance(head.ids)
    constraint.advance(TOKENIZER.encode(text))
    return constraint


def peek_at(text):
    return lambda: TOKENIZER.encode(text)[0]


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
    found = parse(thought)
    for name in VALUES:
        value = getattr(found, name)
        assert value in VALUES[name] or (value is None and name != "bpm")
        assert getattr(user, name) in (None, value)
    return found


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
        found = check_description(description(), random.Random(seed), Metadata())
        skipped |= {
            name for name in ("duration", "genres", "keyscale", "language") if not getattr(found, name)
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
    with pytest.raises(ValueError, match="is not allowed here"):
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
        with pytest.raises(ValueError, match=rf"token {token} .* is not allowed here"):
            constraint.advance([token])
