"""A command line of commands: a parser for each, and the module that runs it, imported when it does."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import NamedTuple

from harness import console
from harness.console import Parser
from harness.flags import spelled, spellings

Add = Callable[..., object]


class Command(NamedTuple):
    """One command. `flags` adds its flags; `runs`: `module:function` of its package, from options to its exit
    code."""

    name: str
    help: str
    flags: Callable[[Add], None]
    runs: str


def main(
    name: str,
    parser: Callable[[], argparse.ArgumentParser],
    argv: Sequence[str] | None,
    fields: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run what `argv` says, None what the process was started with; returns the exit code. `fields` as of
    `spellings`."""
    words = sys.argv[1:] if argv is None else argv

    def command() -> int:
        options = parser().parse_args(words)
        with spelled(spellings(options.parser, words, fields)):
            return options.run(options)

    return console.run(name, command)


def parser(package: str, description: str, commands: Sequence[Command]) -> Parser:
    """The parser of the `commands` of a package."""
    whole = Parser(prog=f"python -m {package}", description=description)
    each = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in commands:
        epilog = "In round brackets the default."
        one = each.add_parser(command.name, help=command.help, epilog=epilog, allow_abbrev=False)
        command.flags(one.add_argument)
        one.set_defaults(run=_run(package, command.runs), parser=one)
    return whole


def _run(package: str, runs: str) -> Callable[[argparse.Namespace], int]:
    module, _, function = runs.partition(":")
    return lambda options: getattr(import_module(f"{package}.{module}"), function)(options)
