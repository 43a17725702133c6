"""A vocabulary whose tokens are no rows, or that lacks bytes, is refused: what it lacks would not be said."""

import json
from pathlib import Path

import pytest

from harness.errors import CheckpointError
from subjects.qwen3_tts.layout import TEXT_VOCAB
from subjects.qwen3_tts.text import MERGES, VOCABULARY, made_up, tokens


def folder(path: Path, **changes: bytes) -> str:
    """A folder of the made-up vocabulary, with other files by their stems."""
    for name, data in made_up().items():
        (path / name).write_bytes(changes.get(Path(name).stem, data))
    return str(path)


def vocabulary(**rows: object) -> bytes:
    return json.dumps(json.loads(made_up()[VOCABULARY]) | rows).encode()


def without(letter: str) -> bytes:
    rows = json.loads(made_up()[VOCABULARY])
    del rows[letter]
    return json.dumps(rows).encode()


WRONG = {
    "a row that is none": (
        {"vocab": vocabulary(ab=TEXT_VOCAB)},
        VOCABULARY,
        "'ab': 151936 is not allowed; use",
    ),
    "a row below zero": ({"vocab": vocabulary(ab=-1)}, VOCABULARY, "'ab': -1 is not allowed; use"),
    "no number": ({"vocab": vocabulary(ab="7")}, VOCABULARY, "'ab': '7' is not allowed; use a whole number"),
    "a byte too few": ({"vocab": without("n")}, VOCABULARY, "1 of 256 bytes are no token"),
    "a pair of nothing": ({"merges": b"q u\n"}, MERGES, "does not fit vocab.json"),
    "no pair": ({"merges": b"a b c\n"}, MERGES, "does not fit vocab.json"),
    "cut at the end of a line": (
        {"vocab": vocabulary(no=300, nono=301), "merges": b"#version: 0.2\nn o\n"},
        MERGES,
        "1 of 258 tokens of vocab.json are made by no merge; is the download complete",
    ),
    "no text": ({"merges": b"\xff\xfe\xfd"}, MERGES, "does not fit vocab.json"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_vocabulary_that_is_wrong_is_one_line(name, tmp_path):
    changes, file, message = WRONG[name]
    with pytest.raises(CheckpointError, match=message) as raised:
        tokens(folder(tmp_path, **changes), "no")
    assert "\n" not in str(raised.value) and str(tmp_path / file) in str(raised.value)


def test_pairs_are_merged(tmp_path):
    source = folder(tmp_path, vocab=vocabulary(no=300), merges=b"#version: 0.2\nn o\n")
    assert tokens(source, "no") == (300,) and len(tokens(source, "on")) == 2
