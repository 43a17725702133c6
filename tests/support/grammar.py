"""The grammar of metadata from its description, and random walks through a machine that should follow it.

Shares no code with the machine: lines are regular expressions, values are lists.
"""

from functools import cache

from hypothesis import strategies as st

from acestep.lm.grammar.allowed import Choice, Done, Forced, Free, allowed_mask
from acestep.request import LANGUAGES
from acestep.text.metadata import Metadata
from acestep.text.tokenizer import ENDOFTEXT, NEWLINE
from acestep.weights.synthetic_tokenizer import synthetic_tokenizer

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


users = st.builds(
    Metadata,
    bpm=st.none() | st.sampled_from(VALUES["bpm"]),
    duration=st.none() | st.sampled_from(VALUES["duration"]),
    keyscale=st.none() | st.sampled_from(VALUES["keyscale"]),
    language=st.none() | st.sampled_from(VALUES["language"]),
    timesignature=st.none() | st.sampled_from(VALUES["timesignature"]),
)


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


def peek_at(text):
    return lambda: TOKENIZER.encode(text)[0]
