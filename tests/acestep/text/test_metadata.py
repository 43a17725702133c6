"""Metadata as text: YAML as the language model was trained on, and back."""

from dataclasses import asdict, replace

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from acestep.request import KEYSCALES, LANGUAGES, TIME_SIGNATURES
from acestep.text.metadata import Metadata, merge, parse

# Text of every kind the emitter distinguishes: what must be quoted, folded, escaped.
ODD = "ab: #-'\"\n,\t\\é夜😀\x85\u2028\xa0\ufeff\r.?![]{}019~=<>&*|%@`\x07\x1b\x7f"
WORDS = [
    "a",
    "slow",
    "song:",
    "with",
    "#1",
    "it's",
    '"q"',
    "no",
    "extraordinarily",
    "–",
    "  ",
    "夜の街",
    "\n",
]
SCALARS = (
    "yes no on ~ null = << 1 1.5 .5 -1 +1 0x1f 0b1 017 1:30 1:30.5 1e5 1.e+5 2020-01-01 2020-1-1 -5 "
    ".inf .NaN 2001-12-14t21:59:43.10-05:00 1_000 - ? : -a ?a :a --- ... ---a a: #b a#b ! & * 0 00 08 1.2.3 "
    "_1 . .. ._ 5. 5_.5e+3 <<a =="
).split()
any_text = st.one_of(
    st.text(ODD, max_size=300),
    st.lists(st.sampled_from([*WORDS, "\t", "😀"]), max_size=60).map(" ".join),
    st.sampled_from(SCALARS),
    st.tuples(st.sampled_from(SCALARS), st.sampled_from(SCALARS)).map(" ".join),
    st.text(st.characters(exclude_categories=("Cs",))),
)
SONG = Metadata(100, "A dramatic J-rock anthem", 200, None, "E♭ minor", "ja", "4")


@settings(max_examples=3 * settings.default.max_examples, deadline=None)
@given(any_text, st.sampled_from(["caption", "keyscale"]))
@example(":\xa0", "caption")
@example("a" * 70 + " b c", "caption")
@example("2001-12-14 21:59:43.10 -5", "caption")
def test_yaml_reads_back_as_what_was_decided(text, name):
    song = replace(SONG, **{name: text})
    read = yaml.safe_load(song.to_yaml())
    decided = {field: value for field, value in asdict(song).items() if value is not None}
    assert read.keys() == decided.keys()
    for field, value in decided.items():  # YAML folds the rarer of line breaks into spaces
        number = field in ("bpm", "duration", "timesignature") or str(value).isdecimal()
        assert isinstance(read[field], int if number else str)
        assert "".join(str(read[field]).split()) == "".join(str(int(value) if number else value).split())


def test_yaml_of_a_song():
    caption = "A dramatic J-rock anthem: guitars, drums and strings behind a voice that rises from a whisper"
    assert replace(SONG, caption=caption, language="no").to_yaml() == (
        "bpm: 100\n"
        "caption: 'A dramatic J-rock anthem: guitars, drums and strings behind a voice that\n"
        "  rises from a whisper'\n"
        "duration: 200\n"
        "keyscale: E♭ minor\n"
        "language: 'no'\n"
        "timesignature: 4"
    )
    assert replace(SONG, caption="no: 夜 😀 it's", keyscale="4.5").to_yaml() == (
        "bpm: 100\ncaption: 'no: 夜 😀 it''s'\nduration: 200\nkeyscale: '4.5'\nlanguage: ja\ntimesignature: 4"
    )
    assert replace(SONG, caption="tab\there").to_yaml().splitlines()[1] == r'caption: "tab\there"'
    assert Metadata().to_yaml() == ""
    assert Metadata(timesignature="3/4").to_yaml() == "timesignature: 3"


plain_captions = st.lists(
    st.sampled_from([*WORDS[:10], "</think>", "夜の街", "<b>", "42", "don't"]), min_size=1, max_size=60
).map(" ".join)
songs = st.builds(
    Metadata,
    bpm=st.none() | st.integers(30, 300),
    caption=st.none() | plain_captions,
    duration=st.none() | st.integers(10, 600),
    genres=st.none() | st.sampled_from(["house, techno", "j-rock", "no", "42"]),
    keyscale=st.none() | st.sampled_from(KEYSCALES),
    language=st.none() | st.sampled_from(LANGUAGES),
    timesignature=st.none() | st.sampled_from(TIME_SIGNATURES),
)


@settings(deadline=None)
@given(songs)
def test_parse_undoes_to_yaml(song):
    text = song.to_yaml()
    assert parse(text) == song
    assert parse(f"<think>\n{text}\n</think>\n\nbpm: 1\n<|audio_code_5|>") == song
    assert parse(f"<think>\n{text}\n<|im_end|>") == song


def test_parse_is_tolerant():
    text = (
        "stray words\n  stray indented line\n<tag>\nbpm: fast\nduration: 90<|im_end|>\nkeyscale: C major\n"
        "unknown: field\n"
    )
    assert parse(text) == Metadata(duration=90)
    assert parse("caption: one\n\n\ttwo \n  three: 3\nlanguage:\nbpm: 7") == Metadata(
        bpm=7, caption="one two three: 3"
    )
    assert parse("timesignature: 4<|audio_code_1|>keyscale: no") == Metadata(timesignature="4")
    assert parse("") == Metadata()


@settings(deadline=None)
@given(songs, songs)
def test_the_user_wins(user, planned):
    merged = asdict(merge(user, planned))
    for name, value in asdict(user).items():
        assert merged[name] == (asdict(planned)[name] if value is None else value)


def test_metas():
    assert SONG.metas() == "- bpm: 100\n- timesignature: 4\n- keyscale: E♭ minor\n- duration: 200 seconds\n"
