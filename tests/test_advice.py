"""A flag that an error advises is one that the command has which raises it."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

import pytest
from commands import PARSERS
from places import ROOT

ACESTEP, COSTS, PROFILER, TIERSIM, TTS, RVC = COMMANDS = (
    *("acestep", "acestep.costs", "profile_inference", "tiersim"),
    *("subjects.qwen3_tts", "subjects.rvc"),
)
ENGINE = (ACESTEP, COSTS, PROFILER)
# Which commands raise what a module says; the longest name that a path begins with decides.
RAISED_BY: Mapping[str, tuple[str, ...]] = {
    "acestep/__main__.py": (ACESTEP,),
    "acestep/choices.py": (ACESTEP, PROFILER),  # of an XL DiT
    "acestep/audio/waveform.py": (ACESTEP, PROFILER, TIERSIM),  # latents, which a prediction has none of
    "acestep/cli/": (ACESTEP,),
    "acestep/costs/": (COSTS,),
    "acestep/fields.py": (ACESTEP,),
    "acestep/lm/backends/finite.py": (ACESTEP, PROFILER, TIERSIM),  # of states, as above
    "acestep/lm/choice.py": (*ENGINE, TIERSIM),
    "acestep/lm/grammar/": (ACESTEP, PROFILER, TIERSIM),  # of logits, as above
    "acestep/placement.py": (*ENGINE, TIERSIM),
    "acestep/profiler/": (PROFILER,),
    "acestep/resolver.py": ENGINE,
    "acestep/tier_case.py": (PROFILER, TIERSIM),
    "harness/accelerators.py": (ACESTEP, PROFILER, TIERSIM),
    "harness/budget.py": (PROFILER,),  # and scripts
    "harness/cards.py": (COSTS, TIERSIM),
    "harness/card_flags.py": (COSTS, TTS, RVC),
    "harness/console.py": COMMANDS,
    "harness/generate.py": (TTS, RVC),
    "harness/graphs.py": (ACESTEP, PROFILER, TTS),
    "harness/trace/command.py": (TTS, RVC),
    "subjects/qwen3_tts/": (TTS,),
    "subjects/rvc/": (RVC,),
    "tiersim/": (PROFILER, TIERSIM),
}
# Lists commands, each of which its own tests run, and spellings of the flags of all.
SHOWN = (ROOT / "acestep/cli/card.py", ROOT / "harness/flags.py")
OTHERS = re.compile(r"pip install|--porcelain|--untracked-files|--show-toplevel|--no-optional-locks")
FLAG = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*(?![\w-])")
NAMED = re.compile(r"python -m ([\w.]+) .*")


class Advice(NamedTuple):
    path: str
    line: int
    text: str  # with {} for what is not known beforehand


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Strings of a module that name a flag, but for docstrings and what declares flags."""
    tree = ast.parse(source)
    left_out: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            left_out.update(id(part) for part in ast.walk(node) if name in ("add", "add_argument", "Option"))
        elif isinstance(node, ast.JoinedStr) and id(node) not in left_out:
            left_out.update(id(part) for part in node.values)
        elif isinstance(node, ast.Expr):
            left_out.add(id(node.value))
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if FLAG.search(text) and not OTHERS.search(text):
            yield node.lineno, text


def advices() -> list[Advice]:
    paths = (
        path
        for top in ("acestep", "harness", "subjects", "tiersim")
        for path in sorted((ROOT / top).rglob("*.py"))
    )
    return [
        Advice(str(path.relative_to(ROOT)), line, text)
        for path in paths
        if path not in SHOWN
        for line, text in texts(path.read_text(encoding="utf-8"))
    ]


def options(parser: argparse.ArgumentParser) -> set[str]:
    flags = {option for action in parser._actions for option in action.option_strings}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            flags = flags.union(*map(options, action.choices.values()))
    return flags


@cache
def flags_of(command: str) -> set[str]:
    return options(PARSERS[command]())


def missing(advice: Advice, raised_by: Mapping[str, tuple[str, ...]] = RAISED_BY) -> list[str]:
    """Flags of an advice that a command has not which raises it, each with the command."""
    homes = [name for name in raised_by if advice.path.startswith(name)]
    assert homes, f"{advice.path}:{advice.line} advises a flag; say which commands raise it: {advice.text!r}"
    of_another = NAMED.search(advice.text)
    commands = (of_another[1],) if of_another else raised_by[max(homes, key=len)]
    about = re.match(r"(\w+): ", advice.text)  # a flag's value, which only who has the flag is told of
    return [
        f"{command} {flag}"
        for command in commands
        for flag in FLAG.findall(advice.text)
        if not (about and f"--{about[1].replace('_', '-')}" not in flags_of(command))
        and flag not in flags_of(command)
    ]


def test_every_flag_that_is_advised_is_there() -> None:
    assert [(advice, flags) for advice in advices() if (flags := missing(advice))] == []


def test_a_flag_that_is_not_there_is_seen() -> None:
    source = '''"""Not --this."""
def f(n, add):
    add("--that", help="nor --this")
    raise ValueError(f"n: {n} is bad; try --nowhere or --dtype")
'''
    ((line, text),) = texts(source)
    assert (line, text) == (4, "n: {} is bad; try --nowhere or --dtype")
    text = text.removeprefix("n: ")
    assert missing(Advice("acestep/cli/x.py", line, text)) == ["acestep --nowhere"]
    assert missing(Advice("acestep/cli/x.py", line, f"python -m acestep.costs {text}")) == [
        "acestep.costs --nowhere"
    ]
    assert (
        missing(Advice("tiersim/x.py", line, "rerun: name --out")) == []
    )  # profile_inference has no --rerun
    with pytest.raises(AssertionError, match="say which commands raise it"):
        missing(Advice("harness/x.py", line, text))
