"""Audio codes as text, the form in which people pass them on: `<|audio_code_17|><|audio_code_63999|>...`.

Five codes are a second of audio. The vocabulary has names for 65,535 of them, the audio quantizer has
64,000 values; the rest mean nothing and are refused. No torch import here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from harness.checks import shown
from harness.errors import UsageError

CODES = 64_000  # 8·8·8·5·5·5 values of the audio quantizer: the valid codes
CODES_PER_SECOND = 5
MAX_CODES = 600 * CODES_PER_SECOND
SPELLING = "<|audio_code_17|><|audio_code_4|>..."
NAME = re.compile(r"\s*<\|audio_code_([0-9]{1,5})\|>\s*")


def code_name(code: int) -> str:
    """The vocabulary's name of one code."""
    return f"<|audio_code_{code}|>"


def join(codes: Iterable[int]) -> str:
    """Codes as text."""
    return "".join(map(code_name, codes))


def parse(text: str) -> tuple[int, ...]:
    """Codes of `text`; white space between them is allowed.

    Raises UsageError for anything else in the text, a code out of range, or more than 600 s of them.
    """
    if not isinstance(text, str):
        raise UsageError(f"audio_codes: {shown(text)} is not text; write {SPELLING}")
    codes: list[int] = []
    end = 0
    while end < len(text):
        name = NAME.match(text, end)
        if name is None:
            raise UsageError(
                f"audio_codes: {text[end : end + 20]!r} at position {end} is no code; write {SPELLING}"
            )
        code, end = int(name[1]), name.end()
        if code >= CODES:
            raise UsageError(f"audio_codes: {code} is out of range; use 0 to {CODES - 1}")
        codes.append(code)
        if len(codes) > MAX_CODES:
            raise UsageError(f"audio_codes: more than {MAX_CODES} codes, which are 600 s; use fewer")
    return tuple(codes)
