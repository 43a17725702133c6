"""`tokenizer.json`, held to what Qwen3's is before the library reads it.

In a file of another kind the library finds patterns that take forever, and prefixes it panics at, which
nobody can catch in one line. Of what Qwen3's tokenizer does not have, nothing is let through. No torch
import, and none of the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from harness.byte_pairs import WORDS
from harness.checkpoint_files import read_whole
from harness.checks import shown
from harness.errors import CheckpointError
from harness.reading import decode

MAX_BYTES = 2**27  # published: 24 million
TEXT_TOKENS = 151_643  # ids of text are below
PATTERN = {"Regex": WORDS}
STEPS = ("NFC", "Sequence", "Split", "ByteLevel")  # kinds of normalizers, pre-tokenizers and decoders

Affix = Literal[""] | None


class BytePairs(msgspec.Struct, frozen=True):
    """The model: byte-level byte-pair encoding."""

    type: Literal["BPE"]
    vocab: dict[str, Annotated[int, Meta(ge=0, lt=TEXT_TOKENS)]]
    dropout: None = None
    continuing_subword_prefix: Affix = None
    end_of_word_suffix: Affix = None


class TokenizerFile(msgspec.Struct, frozen=True):
    """What text goes through. Special tokens have no part in it (`acestep.text.tokenizer`)."""

    model: BytePairs
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    decoder: dict[str, Any] | None = None


def read(path: Path) -> str:
    """The text of a tokenizer.json. Raises CheckpointError naming what in it is not as Qwen3's."""
    try:
        text = decode(read_whole(path, MAX_BYTES))
        contents = msgspec.json.decode(text, type=TokenizerFile)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise CheckpointError(f"{path}: not a tokenizer file: {error!s:.200}") from None
    steps: list[Any] = [contents.normalizer, contents.pre_tokenizer, contents.decoder]
    for step in steps:  # which grows
        if isinstance(step, dict):
            _check_step(path, step)
            steps += (item for items in step.values() if isinstance(items, list) for item in items)
    return text


def _check_step(path: Path, step: dict[str, Any]) -> None:
    if (kind := step.get("type")) not in STEPS:
        raise CheckpointError(f"{path}: step {shown(kind)} is not allowed; use {', '.join(STEPS)}")
    if (pattern := step.get("pattern", PATTERN)) != PATTERN:
        raise CheckpointError(f"{path}: pattern {shown(pattern)} is not allowed; use Qwen3's")
