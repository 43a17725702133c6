"""Audio codes as text, the form in which people pass them on: `<|audio_code_17|><|audio_code_63999|>...`.

Five codes are a second of audio. The vocabulary has names for 65,535 of them, the audio quantizer has
64,000 values. A code beyond them stands for the last, as upstream has it, which is told; what is no code is
refused (upstream skips it). No torch import here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.adjustments import Adjustments
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
    """Codes of `text`, at most CODES - 1 each; white space between them is allowed.

    Raises UsageError for anything else in the text, or more than 600 s of codes.
    """
    return tuple(min(code, CODES - 1) for code in _named(text))


def clamped(text: str, changes: Adjustments) -> str:
    """`text` with the last code in place of those beyond it, which is told. Raises UsageError as `parse`
    does, and where `changes` are strict."""
    beyond = [code for code in _named(text) if code >= CODES]
    if not beyond:
        return text
    more = f", as are {len(beyond) - 1} more" if beyond[1:] else ""
    changes.note("audio_codes", beyond[0], CODES - 1, f"is beyond the audio quantizer's values{more}")
    return join(parse(text))


def _named(text: str) -> Iterator[int]:
    """The numbers of the codes that `text` names."""
    if not isinstance(text, str):
        raise UsageError(f"audio_codes: {shown(text)} is not text; write {SPELLING}")
    end = count = 0
    while end < len(text):
        name = NAME.match(text, end)
        if name is None:
            raise UsageError(
                f"audio_codes: {text[end : end + 20]!r} at position {end} is no code; write {SPELLING}"
            )
        end, count = name.end(), count + 1
        if count > MAX_CODES:
            raise UsageError(f"audio_codes: more than {MAX_CODES} codes, which are 600 s; use fewer")
        yield int(name[1])
