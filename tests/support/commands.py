"""Commands as they are written: whether what they name is there, and takes the flags they have."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from places import ROOT

import tiersim.__main__
from acestep import __main__ as acestep_main
from acestep.costs import __main__ as costs_main
from acestep.profiler.flags import parser as profiler_parser
from harness.errors import UsageError
from scripts.gpu import __main__ as gpu_main
from subjects.qwen3_tts import __main__ as qwen3_tts_main
from subjects.rvc import __main__ as rvc_main

PARSERS: Mapping[str, Callable[[], argparse.ArgumentParser]] = {
    "acestep": acestep_main._parser,
    "acestep.costs": costs_main.arguments,
    "profile_inference": profiler_parser,
    "tiersim": tiersim.__main__.arguments,
    "subjects.qwen3_tts": qwen3_tts_main.parser,
    "subjects.rvc": rvc_main.parser,
    "scripts.gpu": gpu_main.arguments,
}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
BETWEEN = {"&&", "|", ">"}
SETTING = r"[A-Z_]+="
COMMAND = re.compile(
    rf"({SETTING}(\"[^\"]*\"|\S+) )*(\.venv/bin/|python |make |asv |uv |profile_inference\.py )"
)


def parts(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without the variables set for it; none where it is no command."""
    if not COMMAND.match(line):
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, "&&"]:
        if word in BETWEEN:
            yield words
            words = []
        elif words or not re.match(SETTING, word):
            words.append(word)


def problem(words: list[str]) -> str:
    """What is wrong with one command: what it names is not there, or does not take its flags.

    Empty where all is well, or where the command is not ours.
    """
    if words[:2] == ["uv", "run"]:
        words = ["python", *(["-m"] if words[2] in PARSERS else []), *words[2 + (words[2] == "python") :]]
    program, *arguments = words or [""]
    match program.removeprefix(".venv/bin/"), arguments:
        case "python", ["-m", module, *rest]:
            return _module(module, rest)
        case "python", ["-P", script, *rest]:
            return _module(script.removesuffix(".py").replace("/", "."), rest)
        case "python", [script, *rest]:
            return _module(script.removesuffix(".py"), rest)
        case "profile_inference.py", _:
            return _module("profile_inference", arguments)
        case "make", _:
            return _target(arguments)
        case "asv", _:
            from asv.commands import make_argparser

            return _refused(make_argparser()[0], arguments)
    return ""


def _module(name: str, arguments: list[str]) -> str:
    place = ROOT / name.replace(".", "/")
    files = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else [*place.glob("*.py")]
    if not files:
        return f"{name} is no module"
    if name in PARSERS:
        return _refused(PARSERS[name](), arguments) if arguments else ""
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    unknown = [word for word in arguments if word.startswith("--") and f'"{word}"' not in source]
    return f"{name} has no {unknown}" if unknown else ""


def _target(arguments: list[str]) -> str:
    for argument in arguments:
        name, is_set, _ = argument.partition("=")
        known = rf"^{name} \?=" if is_set else rf"^{name}:"
        if not re.search(known, MAKEFILE, re.MULTILINE):
            return f"the Makefile has no {name}"
    return ""


def _refused(parser: argparse.ArgumentParser, arguments: list[str]) -> str:
    """What a parser says of arguments that it does not take."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(arguments)
    except UsageError as error:
        return f"{parser.prog}: {error}"
    except SystemExit as ended:
        return errors.getvalue() if ended.code else ""
    return ""
