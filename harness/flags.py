"""Flags of a command line: their spellings, how a number is written, how an error names what was typed.

One idea has one spelling in all commands, which help shows. The others, of guides and of before, are taken
for it wherever there is that idea (`translated`, by `harness.console.Parser`), as are underscores for dashes.

A number is plain decimal digits, with a sign, a point and an exponent where it needs them. Python would read
more: 8_0 as 80, the digits of every script, nan and inf.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from harness.checks import shown
from harness.errors import BenchError, UsageError
from harness.reading import read_text

WHOLE = re.compile(r"[+-]?[0-9]{1,1000}")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# By the spelling that help shows, the others that are taken for it.
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "--batch-boundary": ("--tier-batch-boundary",),
        "--batch-size": ("--batch",),
        "--boundary": ("--tier-boundary",),
        "--codes": ("--audio-codes",),
        "--dit": ("--config-path",),
        "--dry-run": ("--list",),
        "--duration": ("--tier-duration",),
        "--example": ("--request",),
        "--html": ("--report",),
        "--json-plan": ("--json-output",),
        "--lm": ("--lm-model",),
        "--max-vram": ("--vram",),
        "--offload": ("--offload-to-cpu",),
        "--offload-dit": ("--offload-dit-to-cpu",),
        "--only": ("--bench",),
        "--out": ("--output-dir", "--output"),
        "--repeats": ("--runs", "--iterations"),
        "--skip-compile": ("--tier-skip-compile",),
        "--source": ("--model-dir",),
        "--steps": ("--inference-steps",),
        "--task": ("--task-type",),
        "--tiers": ("--tier",),
        "--with-lm": ("--tier-with-lm",),
    }
)
_ONE = {alias: flag for flag, aliases in ALIASES.items() for alias in aliases}
_ONE |= {f"--no-{alias[2:]}": f"--no-{flag[2:]}" for alias, flag in _ONE.items()}

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def one_spelling(flag: str) -> str:
    """The spelling of `flag` that help shows."""
    flag = flag.replace("_", "-")
    return _ONE.get(flag, flag)


def translated(words: Sequence[str], known: Container[str]) -> list[str]:
    """`words` with the spellings that a parser declares, the `known` ones. What it declares itself stays.

    Raises UsageError where one idea has two spellings: the last would hold, and that is not what is meant.
    """
    spelled_as: dict[str, str] = {}
    end = words.index("--") if "--" in words else len(words)
    line = list(words)
    for place, word in enumerate(words[:end]):
        typed, equals, value = word.partition("=")
        flag = typed if typed in known else one_spelling(typed)
        if not typed.startswith("--") or flag not in known:
            continue
        if (before := spelled_as.setdefault(flag, typed)) != typed:
            other, one = (typed, before) if typed != flag else (before, typed)
            raise UsageError(f"{other}: is {one} in other words, which is given too; keep one of them")
        line[place] = flag + equals + value
    return line


def as_typed(words: Sequence[str]) -> dict[str, str]:
    """Other spellings in `words`, by the one that help shows: an error names what was typed."""
    typed = (word.partition("=")[0] for word in words if word.startswith("--"))
    return {one_spelling(flag): flag for flag in typed if one_spelling(flag) != flag}


def whole(text: str) -> int:
    """The whole number that `text` is. Raises ArgumentTypeError, as argparse has it of a type."""
    if not WHOLE.fullmatch(text.strip(" ")):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not allowed; use a whole number")
    return int(text)


def number(text: str) -> float:
    """The finite number that `text` is. Raises ArgumentTypeError, as argparse has it of a type."""
    value = float(text) if NUMBER.fullmatch(text.strip(" ")) else math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{shown(text)} is not allowed; use a number")
    return value


def span(text: str) -> float:
    """Seconds of `90`, `90s`, `10m` or `1.5h`. Raises ArgumentTypeError."""
    unit = text[-1:] if text[-1:] in SECONDS else ""
    try:
        return number(text.removesuffix(unit)) * SECONDS[unit or "s"]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a time; use 90s, 10m or 1h") from None


def text(name: str, value: str) -> str:
    """A flag's text; `@FILE` is what the file holds. Raises as `read_text` does, about the flag `name`."""
    if not value.startswith("@"):
        return value
    try:
        return read_text(Path(value[1:])).strip("\n")
    except BenchError as error:
        raise type(error)(f"{name}: {value!r}: {error}") from None


@contextmanager
def spelled(spellings: Mapping[str, str]) -> Iterator[None]:
    """An error that begins with the name of a field begins with its spelling instead."""
    try:
        yield
    except BenchError as error:
        names, colon, rest = str(error).partition(":")
        spelling = ", ".join(spellings.get(name, name) for name in names.split(", "))
        if not colon or spelling == names:
            raise
        raise type(error)(f"{spelling}:{rest}") from None


def spellings(
    parser: argparse.ArgumentParser, argv: Sequence[str], fields: Mapping[str, str] = MappingProxyType({})
) -> dict[str, str]:
    """The flags of `parser`, for `spelled`: as they stand in `argv`, by the name of their value.

    `fields`: names of values elsewhere, by what they have the flag of.
    """
    typed = {word.partition("=")[0] for word in argv}
    others = as_typed(argv)
    flags = {}
    for action in parser._actions:
        ways = action.option_strings or [action.dest]
        flag = next((flag for flag in ways if flag in typed), others.get(ways[0], ways[0]))
        flags |= {action.dest: flag, f"{action.dest} (argument)": flag}
    return flags | {field: flags[name] for field, name in fields.items() if name in flags} | others
