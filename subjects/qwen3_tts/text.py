"""Text to tokens: by the files of a folder, or made-up ones for made-up weights. No torch import here."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint_files import read_json, read_whole
from harness.checks import shown
from harness.errors import CheckpointError
from harness.reading import decode
from subjects.qwen3_tts.layout import ASSISTANT, IM_END, IM_START, NEWLINE, SYNTHETIC, TEXT_VOCAB, USER

if TYPE_CHECKING:
    import tokenizers

WORDS = re.compile(r" ?\w+|[^\w\s]+|\s+")
VOCABULARY, MERGES = "vocab.json", "merges.txt"
MAX_BYTES = 2**24  # of either file; published: 2,776,833 and 1,671,853


def tokens(source: str, text: str) -> tuple[int, ...]:
    """Ids of `text`. For made-up weights a token is a word, and its id follows from its letters.

    Raises CheckpointError for a folder without a vocabulary.
    """
    if source in SYNTHETIC:
        return tuple(zlib.crc32(word.encode()) % (IM_START - 1) for word in WORDS.findall(text))
    return tuple(_tokenizer(Path(source)).encode(text, add_special_tokens=False).ids)


def spoken(body: Iterable[int]) -> tuple[int, ...]:
    """The template of a text to be said: an answer, and the beginning of the next."""
    return (IM_START, ASSISTANT, NEWLINE, *body, IM_END, NEWLINE, IM_START, ASSISTANT, NEWLINE)


def instruction(body: Iterable[int]) -> tuple[int, ...]:
    """The template of how it is to be said."""
    return (IM_START, USER, NEWLINE, *body, IM_END, NEWLINE)


def heard(body: Iterable[int]) -> tuple[int, ...]:
    """The template of what is said in a recording."""
    return (IM_START, ASSISTANT, NEWLINE, *body, IM_END, NEWLINE)


def made_up() -> dict[str, bytes]:
    """The files of a vocabulary whose tokens are bytes, by name."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {letter: token for token, letter in enumerate(sorted(ByteLevel.alphabet()))}
    return {VOCABULARY: json.dumps(vocab).encode(), MERGES: b"#version: 0.2\n"}


@lru_cache(maxsize=2)
def _tokenizer(folder: Path) -> tokenizers.Tokenizer:
    from tokenizers import models
    from tokenizers.pre_tokenizers import ByteLevel

    from harness.byte_pairs import backend

    vocab = read_json(folder / VOCABULARY, MAX_BYTES)
    _check_vocabulary(vocab, folder / VOCABULARY)
    merges = read_whole(folder / MERGES, MAX_BYTES)
    try:
        lines = decode(merges).splitlines()
        pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        tokenizer = backend(models.BPE(vocab, pairs))  # type: ignore[arg-type]
    except Exception as error:  # bytes that are no text, and the library has one kind for all
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"{folder / MERGES}: does not fit {VOCABULARY} ({reason})") from None
    if unmade := vocab.keys() - set(map("".join, pairs)) - set(ByteLevel.alphabet()):
        few = f"{len(unmade)} of {len(vocab)} tokens of {VOCABULARY} are made by no merge"
        raise CheckpointError(f"{folder / MERGES}: {few}; is the download complete?")
    return tokenizer


def _check_vocabulary(vocab: Mapping[str, Any], place: Path) -> None:
    """Raise CheckpointError unless tokens are rows of the text table and every byte is one, as what is none
    would be left out of a text without a word."""
    from tokenizers.pre_tokenizers import ByteLevel

    for token, row in vocab.items():
        if type(row) is not int or not 0 <= row < TEXT_VOCAB:
            use = f"a whole number from 0 to {TEXT_VOCAB - 1}"
            raise CheckpointError(f"{place}: {shown(token)}: {shown(row)} is not allowed; use {use}")
    if missing := set(ByteLevel.alphabet()) - vocab.keys():
        raise CheckpointError(f"{place}: {len(missing)} of 256 bytes are no token; is the download complete?")
