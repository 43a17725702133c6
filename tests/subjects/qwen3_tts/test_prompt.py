"""Prompts of every mode, as rows of ids: by hand, in tables of the published template."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UsageError
from subjects.qwen3_tts.prompt import Prompt, Reference, Row, layout

ROLE = [151_644, 77_091, 198]
BODY = [1000, 1001, 1002, 1003]
TEXT = [*ROLE, *BODY, 151_645, 198, 151_644, 77_091, 198]
INSTRUCT = [151_644, 872, 198, 500, 501, 151_645, 198]
FRAMES = [[100 * frame + code for code in range(16)] for frame in range(6)]
PAD, BOS, EOS = 151_671, 151_672, 151_673  # of the text side

SHORT = Reference([*ROLE, 700, 151_645, 198], FRAMES)  # less text than frames
LONG = Reference([*ROLE, *range(700, 706), 151_645, 198], FRAMES[:3])


def rows(prompt: Prompt) -> list[tuple[int, Any]]:
    """Text side and codec side, where one code is itself and an x-vector a word."""
    return [
        (text, "x-vector" if speaks else codes[0] if len(codes) == 1 else codes or None)
        for text, codes, speaks in prompt.rows
    ]


TEXT_ONLY = [(token, None) for token in ROLE]
ENGLISH = [(PAD, 2154), (PAD, 2156), (PAD, 2050), (PAD, 2157)]
AUTO = [(PAD, 2155), (PAD, 2156), (PAD, 2157)]
RYAN = [(PAD, 3061)]
SPEAKER = [(PAD, "x-vector")]
BEGIN = [(BOS, 2148)]
WHOLE = [*((token, 2148) for token in (*BODY, EOS)), (PAD, 2149)]
FIRST = [(1000, 2149)]
LATER = [1001, 1002, 1003, EOS]
CODES = [tuple(frame) for frame in FRAMES]

CASES: dict[str, tuple[dict[str, Any], list[tuple[int, Any]], list[int]]] = {
    "a speaker and a language": (
        {"language": "english", "speaker": "ryan"}, [*TEXT_ONLY, *ENGLISH, *RYAN, *BEGIN, *WHOLE], [PAD],
    ),
    "streaming": (
        {"language": "english", "speaker": "ryan", "streaming": True},
        [*TEXT_ONLY, *ENGLISH, *RYAN, *BEGIN, *FIRST], LATER,
    ),
    "any language": ({"speaker": "ryan"}, [*TEXT_ONLY, *AUTO, *RYAN, *BEGIN, *WHOLE], [PAD]),
    "an instruction": (
        {"speaker": "ryan", "instruct": INSTRUCT},
        [*((token, None) for token in INSTRUCT), *TEXT_ONLY, *AUTO, *RYAN, *BEGIN, *WHOLE], [PAD],
    ),
    "a voice by design": (
        {"language": "english", "instruct": INSTRUCT},
        [*((token, None) for token in INSTRUCT), *TEXT_ONLY, *ENGLISH, *BEGIN, *WHOLE], [PAD],
    ),
    "a voice by x-vector": (
        {"language": "english", "x_vector": True, "streaming": True},
        [*TEXT_ONLY, *ENGLISH, *SPEAKER, *BEGIN, *FIRST], LATER,
    ),
    "a reference, streaming, shorter than its frames": (
        {"language": "english", "x_vector": True, "reference": SHORT, "streaming": True},
        [*TEXT_ONLY, *ENGLISH, *SPEAKER, *BEGIN,
         (700, 2149), *zip((*BODY, EOS, PAD), CODES, strict=True)], [PAD],
    ),
    "a reference, streaming, longer than its frames": (
        {"language": "english", "x_vector": True, "reference": LONG, "streaming": True},
        [*TEXT_ONLY, *ENGLISH, *SPEAKER, *BEGIN, (700, 2149), *zip((701, 702, 703), CODES, strict=False)],
        [704, 705, *BODY, EOS],
    ),
    "a reference and all of the text": (
        {"language": "english", "x_vector": True, "reference": LONG},
        [*TEXT_ONLY, *ENGLISH, *SPEAKER, *BEGIN, *((token, 2148) for token in (*range(700, 706), *BODY, EOS)),
         (PAD, 2149), *((PAD, codes) for codes in CODES[:3])], [PAD],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_by_hand(name: str):
    how, expected, trailing = CASES[name]
    prompt = layout(TEXT, **how)
    assert rows(prompt) == expected
    assert (prompt.trailing, prompt.pad) == (trailing, PAD)


@pytest.mark.parametrize(
    ("streaming", "reference", "count"),
    [(True, None, 10), (False, None, len(BODY) + 11), (True, SHORT, 10 + 6), (True, LONG, 10 + 3)],
)
def test_a_language_and_a_speaker_are_so_many_rows(streaming: bool, reference: Reference | None, count: int):
    prompt = layout(TEXT, language="german", x_vector=True, reference=reference, streaming=streaming)
    assert len(prompt.rows) == count


@pytest.mark.parametrize(
    ("speaker", "language", "code"),
    [
        ("eric", "auto", 2062),
        ("eric", "chinese", 2062),
        ("dylan", "auto", 2074),
        ("dylan", "chinese", 2074),
        ("eric", "english", 2050),
        ("ryan", "chinese", 2055),
        ("ryan", "auto", None),
        ("ryan", "beijing_dialect", 2074),
    ],
)
def test_a_speaker_of_a_dialect_has_it_in_place_of_chinese(speaker: str, language: str, code: int | None):
    tags = layout(TEXT, language=language, speaker=speaker).rows[3:7]
    if code is None:
        assert tags[0] == Row(PAD, (2155,))
    else:
        assert tags[0] == Row(PAD, (2154,)) and tags[2] == Row(PAD, (code,))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"language": "klingon"}, "language: 'klingon' is not allowed; use one of auto, english, "),
        ({"speaker": "nobody"}, "speaker: 'nobody' is not allowed; use one of aiden, "),
        ({"speaker": "ryan", "x_vector": True}, "speaker: a name and a recording are not allowed together"),
        ({"reference": Reference(LONG.text, [[0] * 15])}, "reference: frame 0 is [0, 0, 0"),
        (
            {"reference": Reference(LONG.text, [[0] * 16, [0] * 15 + [2048]])},
            "reference: frame 1 is [0, 0, 0",
        ),
        ({"text": [*ROLE, *TEXT[-5:]]}, "text: has no tokens"),
    ],
)
def test_what_is_not_allowed_is_said(how: dict[str, Any], message: str):
    with pytest.raises(UsageError) as error:
        layout(how.pop("text", TEXT), **how)
    assert str(error.value).startswith(message)
