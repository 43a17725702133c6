"""Text as a YAML value, to the byte as PyYAML writes it.

The language model was trained on chains of thought dumped by PyYAML (block style, unicode allowed, width
80), so the prompt must quote and fold like it. This is the part of YAML 1.1 a `key: value` line needs:

    plain            A slow song in E♭            the default
    single-quoted    'Slow: a song', 'no', '4.5'  plain would read as something else, or has line breaks
    double-quoted    "tab\\there"                  only escapes can express it

Long values fold at lone spaces once the line is past column 80; continuation lines are indented by two.
"""

from __future__ import annotations

import re

WIDTH = 80
INDENT = "  "
BREAKS = "\n\x85\u2028\u2029"
# Words that a YAML 1.1 reader takes for a boolean, null, number, date or operator.
NOT_TEXT = re.compile(
    r"""(?x:
    yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF
    |  # the empty text
    | ~ | null|Null|NULL | = | <<
    | [-+]? (0b[01_]+ | 0x[\da-fA-F_]+ | 0[0-7_]+ | 0 | [1-9][\d_]*(:[0-5]?\d)*)
    | [-+]? ( \d[\d_]*\.[\d_]*([eE][-+]\d+)? | \d[\d_]*(:[0-5]?\d)+\.[\d_]* | \.(inf|Inf|INF) )
    | \.\d[\d_]*([eE][-+]\d+)? | \.(nan|NaN|NAN)
    | \d{4}-\d\d-\d\d
    | \d{4}-\d\d?-\d\d? ([Tt]|[ \t]+) \d\d?:\d\d:\d\d(\.\d*)? ([ \t]*(Z|[-+]\d\d?(:\d\d)?))?
    )""",
    re.ASCII,
)
# What begins something else than text: an indicator, `- `, `: `, a document mark, a comment.
STARTS_SYNTAX = re.compile(r"""[#,\[\]{}&*!|>'"%@`]|[-?:](?= |\Z)|---|\.\.\.""")
CONTAINS_SYNTAX = re.compile(r":(?= |\Z)|(?<= )#")
SPACE_BY_BREAK = re.compile(rf" [{BREAKS}]")
BREAK_BY_SPACE = re.compile(rf"[{BREAKS}] ")
UNPRINTABLE = re.compile("[^\n\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffe]")
ESCAPED = re.compile('[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]|["\\\\\u2028\u2029\ufeff]')
ESCAPES = dict(zip('\0\a\b\t\n\v\f\r\x1b"\\\x85\u2028\u2029', '0abtnvfre"\\NLP', strict=True))


def yaml_scalar(value: int | str, column: int) -> str:
    """`value` as PyYAML writes it after a key and a space that end at `column`."""
    if isinstance(value, int):
        return str(value)
    if UNPRINTABLE.search(value) or SPACE_BY_BREAK.search(value) or BREAK_BY_SPACE.search(value):
        return _double_quoted(value, column)
    if _plain(value):
        return _folded(value, column)
    return "'" + _folded(value.replace("'", "''"), column + 1) + "'"


def _plain(text: str) -> bool:
    """Whether unquoted `text` reads back as this text and nothing else."""
    return not (
        NOT_TEXT.fullmatch(text)
        or STARTS_SYNTAX.match(text)
        or CONTAINS_SYNTAX.search(text)
        or text != text.strip(" ")
        or any(char in BREAKS for char in text)
    )


def _folded(text: str, column: int) -> str:
    """`text` with lone spaces past column 80 turned into line breaks, and line breaks doubled."""
    out = []
    pieces = re.findall(rf" +|[{BREAKS}]+|[^ {BREAKS}]+", text)
    for i, piece in enumerate(pieces):
        if piece[0] in BREAKS:
            # A single break would fold into a space, so the first newline of a run is written twice.
            piece = ("\n" if piece[0] == "\n" else "") + piece + INDENT
            column = len(INDENT)
        elif piece == " " and column > WIDTH and 0 < i < len(pieces) - 1:
            piece = "\n" + INDENT
            column = len(INDENT)
        else:
            column += len(piece)
        out.append(piece)
    return "".join(out)


def _double_quoted(text: str, column: int) -> str:
    """`text` with escapes; lines past column 80 end in a backslash, before a space or around an escape."""
    out = ['"']
    column += 1
    after_escape = False
    for i, char in enumerate(text):
        escape = _escape(char) if ESCAPED.match(char) else ""
        out.append(escape)
        column += len(escape)
        may_fold = 0 < i < len(text) - 1 and (char == " " or escape or after_escape)
        if may_fold and column - bool(escape) > WIDTH:
            out.append("\\\n" + INDENT)
            column = len(INDENT)
            if (text[i + 1] if escape else char) == " ":  # a leading space would be lost
                out.append("\\")
                column += 1
        if not escape:
            out.append(char)
            column += 1
        after_escape = bool(escape)
    return "".join(out) + '"'


def _escape(char: str) -> str:
    code = ord(char)
    if char in ESCAPES:
        return "\\" + ESCAPES[char]
    return f"\\x{code:02X}" if code <= 0xFF else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
