"""Text to token ids and back, for the language model and the text encoder (one vocabulary, Qwen3's).

A prompt is built of two kinds of parts: special tokens, which are ids, and text, which comes from users.
Text never becomes a special token here: `encode("<|im_end|>")` gives the ids of those nine characters.
So nobody can close a turn or plant audio codes through a caption. The library's own switch for this,
`encode_special_tokens`, still matches added tokens that are not flagged special (`<think>`); the way that
cannot miss one is to encode with the same BPE model and no added tokens at all.

    ids       0 .. 151642   text (byte-level BPE; digits and the space before a digit are single tokens)
         151643 .. 151668   special tokens
         151669 .. 217203   audio codes, `<|audio_code_0|>` .. `<|audio_code_65534|>`; LM only

    >>> synthetic_tokenizer("lm").encode_prompt([IM_START, "user\\nbpm: 120", IM_END])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.text import tokenizer_file
from acestep.text.audio_codes import CODES, code_name
from harness.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    import tokenizers

ENDOFTEXT = tokenizer_file.TEXT_TOKENS  # 151643; also padding
IM_START = 151644
IM_END = 151645  # ends a turn; EOS of the language model
THINK = 151667
THINK_END = 151668
NEWLINE = 198
SPACE = 220  # the space before a digit; before a letter it belongs to the word's token
FIRST_CODE = 151669
CODE_SLOTS = 65_535  # codes the vocabulary has names for
TEXT_VOCAB = FIRST_CODE
LM_VOCAB = FIRST_CODE + CODE_SLOTS

SPECIAL_TOKENS = (
    "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> "
    "<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> "
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> "
    "<|file_sep|> <tool_response> </tool_response> <think> </think>"
).split()


class Tokenizer:
    """Byte-level BPE over `backend`'s model, with special ids kept apart from text."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        import tokenizers  # here: the numbers above are wanted where nothing is tokenized

        self._text = tokenizers.Tokenizer(backend.model)  # shares the model; has no added tokens
        for part in ("normalizer", "pre_tokenizer", "decoder"):
            if (value := getattr(backend, part)) is not None:
                setattr(self._text, part, value)

    @classmethod
    def from_folder(cls, folder: str | Path, *, audio_codes: bool = False) -> Tokenizer:
        """Read `folder/tokenizer.json`; `audio_codes` demands the language model's code tokens as well.

        Raises CheckpointError when the file is absent, unreadable, or puts a token elsewhere than the
        model expects it.
        """
        import tokenizers

        path = Path(folder) / "tokenizer.json"
        text = tokenizer_file.read(path)
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises no narrower class
            raise CheckpointError(f"{path}: not a tokenizer file: {error!s:.200}") from None
        tokenizer = cls(backend)
        tokenizer._verify(backend, path, audio_codes)
        return tokenizer

    def _verify(self, backend: tokenizers.Tokenizer, path: Path, audio_codes: bool) -> None:
        from tokenizers.pre_tokenizers import ByteLevel

        for byte in sorted(ByteLevel.alphabet()):
            if self._text.token_to_id(byte) is None:
                raise CheckpointError(f"{path}: no token for the byte {byte!r}; use the published one")
        expected = {SPECIAL_TOKENS[i - ENDOFTEXT]: i for i in (ENDOFTEXT, IM_START, IM_END, THINK, THINK_END)}
        if audio_codes:
            expected |= {code_name(code): FIRST_CODE + code for code in (0, CODES - 1)}
        ids = {name: backend.token_to_id(name) for name in expected}
        for text, id_ in (("\n", NEWLINE), (" ", SPACE)):
            expected[text] = id_
            ids[text] = next(iter(self.encode(text)), None)
        for name, id_ in expected.items():
            if ids[name] != id_:
                raise CheckpointError(
                    f"{path}: token {name!r} has id {ids[name]}, expected {id_}; "
                    "use the tokenizer.json published with this model"
                )

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, all of them below ENDOFTEXT whatever the text says."""
        return self._encoding(text).ids

    def truncate(self, text: str, tokens: int) -> str:
        """The beginning of `text` that its first `tokens` tokens spell; no character is cut in half."""
        starts = [start for start, _ in self._encoding(text).offsets]
        return text if len(starts) <= tokens else text[: starts[tokens]]

    def _encoding(self, text: str) -> tokenizers.Encoding:
        try:
            return self._text.encode(text, add_special_tokens=False)
        except TypeError:  # half of a surrogate pair has no UTF-8
            raise UsageError(f"text {text[:40]!r}: not valid Unicode; remove the lone surrogate") from None

    def encode_prompt(self, parts: Sequence[int | str]) -> list[int]:
        """Ids of a prompt: ints are special ids as they are, neighbouring strings are one text."""
        ids: list[int] = []
        for is_text, run in groupby(parts, key=lambda part: isinstance(part, str)):
            segment = list(run)
            ids += self.encode("".join(map(str, segment))) if is_text else map(int, segment)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special tokens and audio codes by name, broken UTF-8 as U+FFFD."""
        runs = groupby(ids, key=lambda id_: id_ < ENDOFTEXT)
        return "".join(
            self._text.decode(list(run)) if is_text else "".join(map(_special_text, run))
            for is_text, run in runs
        )

    def token_text(self, token_id: int) -> str:
        """Text of one token by itself."""
        return self._text.decode([token_id]) if token_id < ENDOFTEXT else _special_text(token_id)


def _special_text(token_id: int) -> str:
    if token_id < FIRST_CODE:
        return SPECIAL_TOKENS[token_id - ENDOFTEXT]
    return code_name(token_id - FIRST_CODE)
