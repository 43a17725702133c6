"""One idea has one spelling in all commands, and the others are taken for it wherever there is that idea."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import pytest

from acestep import __main__ as acestep
from acestep.costs import __main__ as costs
from acestep.profiler import command as profiler
from acestep.profiler import flags as profiler_flags
from harness.errors import UsageError
from harness.flags import ALIASES, number, one_spelling, span, whole
from scripts.gate import __main__ as gate
from scripts.gpu import __main__ as gpu
from subjects.qwen3_tts import __main__ as speech
from subjects.rvc import __main__ as conversion
from tiersim import __main__ as tiersim

POSITIONALS = {  # of commands that need one
    "acestep codes": ["song.wav"],
    "acestep fits": ["8"],
    "acestep write-checkpoint": ["synthetic-tiny", "folder"],
    "gate": ["HEAD"],
    "qwen3_tts write-checkpoint": ["synthetic-tiny", "folder"],
    "rvc convert": ["song.wav"],
    "rvc write-checkpoint": ["synthetic-tiny", "folder"],
}
VALUES = {whole: "8", number: "8", span: "90s"}


def commands(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser, and those of its commands."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from ((f"{name} {command}", one) for command, one in action.choices.items())


PARSERS = {
    command: parser
    for name, whole_parser in {
        "profile_inference": profiler_flags.parser(),
        "tiersim": tiersim.arguments(),
        "acestep": acestep._parser(),
        "costs": costs.arguments(),
        "gate": gate.arguments(),
        "gpu": gpu.arguments(),
        "qwen3_tts": speech.parser(),
        "rvc": conversion.parser(),
    }.items()
    for command, parser in commands(name, whole_parser)
}


def spellings(flag: str, action: argparse.Action) -> Iterator[tuple[str, str]]:
    """Each other spelling of a flag with the one that help shows, of what switches it off, too."""
    for alias in ALIASES[flag]:
        yield alias, flag
        if f"--no-{flag[2:]}" in action.option_strings:
            yield f"--no-{alias[2:]}", f"--no-{flag[2:]}"


def value(action: argparse.Action) -> list[str]:
    if action.nargs == 0:
        return []
    return [str([*action.choices][-1] if action.choices else VALUES.get(action.type, "x"))]


def read(command: str, words: list[str]) -> dict[str, object]:
    return vars(PARSERS[command].parse_known_args([*POSITIONALS.get(command, ()), *words])[0])


@pytest.mark.parametrize("command", PARSERS)
def test_every_other_spelling_comes_to_the_same_value(command):
    for action in PARSERS[command]._actions:
        for flag in ALIASES.keys() & set(action.option_strings):
            for alias, shown in spellings(flag, action):
                meant = read(command, [shown, *value(action)])
                assert meant != read(command, [])
                assert read(command, [alias, *value(action)]) == meant, alias
                if word := "".join(value(action)):
                    assert (
                        read(command, [f"{alias.replace('-', '_').replace('__', '--', 1)}={word}"]) == meant
                    )


@pytest.mark.parametrize("command", PARSERS)
def test_help_shows_one_spelling_of_each_idea(command):
    shown = set(PARSERS[command]._option_string_actions)
    assert shown == set(map(one_spelling, shown))


def test_every_idea_is_somewhere_and_has_its_own_spellings():
    shown = {flag for parser in PARSERS.values() for flag in parser._option_string_actions}
    assert ALIASES.keys() <= shown
    others = [alias for aliases in ALIASES.values() for alias in aliases]
    assert len({*others, *ALIASES}) == len(others) + len(ALIASES)


def test_a_command_without_the_idea_has_no_spelling_of_it():
    with pytest.raises(UsageError, match="unrecognized arguments: --lm-model"):
        gpu.arguments().parse_args(["--lm-model", "x"])
    assert read("tiersim", ["--", "--batch", "8"])["batch_size"] is None  # nor is there one after the flags


def test_two_spellings_of_one_idea_are_refused():
    with pytest.raises(UsageError, match="--inference-steps: is --steps in other words"):
        tiersim.arguments().parse_args(["--steps", "4", "--inference-steps", "8"])
    assert tiersim.arguments().parse_args(["--steps", "4", "--steps", "8"]).steps == 8


@pytest.mark.parametrize(
    ("run", "line", "error"),
    [
        (tiersim.main, "--inference-steps x", "argument --inference-steps: 'x' is not allowed"),
        (tiersim.main, "--steps x", "argument --steps: 'x' is not allowed"),
        (costs.main, "--batch 0", "--batch: 0 is not allowed"),
        (profiler.main, "--lm-model theirs", "--lm-model: there is no 'theirs'"),
        (profiler.main, "--mode understand --inference-steps 8", "--inference-steps: has no meaning in mode"),
        (profiler.main, "--mode tier-test --inference-steps 0", "--inference-steps: 0 is not allowed"),
        (acestep.main, "generate --inference-steps 0 --dry-run", "--inference-steps: 0 is not allowed"),
    ],
)
def test_an_error_names_the_spelling_that_was_typed(run, line, error, capsys, monkeypatch):
    monkeypatch.setenv("ACESTEP_SOURCE", "synthetic-tiny")
    tier_test = {"tier_test": tiersim.main} if run is profiler.main else {}
    assert run(line.split(), **tier_test) in (2, 3)
    assert f": {error}" in capsys.readouterr().err
