"""Flags: numbers are plain digits, and an error names what was typed."""

import argparse

import pytest

from acestep.__main__ import _parser
from acestep.costs.__main__ import arguments as costs
from acestep.profiler.flags import parser as profiler
from harness.errors import MissingPrerequisite, UsageError
from harness.flags import number, spelled, spellings, text, whole
from tiersim.__main__ import arguments as tiersim

# What Python takes for a number and nobody means, and what is none.
ODD = [
    "8_0",
    "\u0668",
    "\uff18",
    "nan",
    "inf",
    "-Infinity",
    "1e999",
    "0x8",
    "0b1",
    "",
    " ",
    "8 0",
    "8GB",
    "8,5",
    "--8",
]


@pytest.mark.parametrize("word", ODD)
@pytest.mark.parametrize("kind", [number, whole])
def test_a_number_is_plain_digits(kind, word: str):
    with pytest.raises(argparse.ArgumentTypeError, match="is not allowed; use a"):
        kind(word)


@pytest.mark.parametrize(
    ("word", "value"),
    {"8": 8.0, " 8 ": 8.0, "-1": -1.0, "+.5": 0.5, "7.66": 7.66, "8.": 8.0, "1e3": 1000.0}.items(),
)
def test_a_number_is_what_it_says(word: str, value: float):
    assert number(word) == value
    if value.is_integer() and word.strip().lstrip("-").isdigit():
        assert whole(word) == value


@pytest.mark.parametrize("word", ["8.5", "1e3", "9" * 5000])
def test_a_whole_number_has_no_fraction_and_an_end(word: str):
    with pytest.raises(argparse.ArgumentTypeError, match="use a whole number"):
        whole(word)


def parsers() -> dict[str, argparse.ArgumentParser]:
    commands = next(action for action in _parser()._actions if isinstance(action.choices, dict)).choices
    return {**commands, "costs": costs(), "tiersim": tiersim(), "profiler": profiler()}


@pytest.mark.parametrize("command", parsers())
def test_no_flag_reads_a_number_in_another_way(command: str):
    kinds = {action.type for action in parsers()[command]._actions if action.option_strings}
    assert not kinds & {int, float, complex}
    for action in parsers()[command]._actions:
        for word in ODD[:6] if action.type in (number, whole) else ():
            with pytest.raises(argparse.ArgumentTypeError):
                action.type(word)


def test_an_error_names_the_flag_that_was_typed():
    parser = argparse.ArgumentParser()
    parser.add_argument("song")
    parser.add_argument("--steps", "--inference-steps")
    parser.add_argument("--max-tokens")
    names = spellings(parser, ["x", "--inference-steps=3"], {"most": "max_tokens", "absent": "none"})
    messages = {
        "steps: 3 is bad": "--inference-steps: 3 is bad",
        "most: no: steps: 3": "--max-tokens: no: steps: 3",
        "song: none": "song: none",
        "steps, most: both": "--inference-steps, --max-tokens: both",
        "steps (argument): 3": "--inference-steps: 3",
        "other: 3": "other: 3",
        "steps": "steps",
    }
    for message, expected in messages.items():
        for kind in (UsageError, MissingPrerequisite):
            with pytest.raises(kind) as caught, spelled(names):
                raise kind(message)
            assert str(caught.value) == expected and type(caught.value) is kind


def test_a_text_is_what_its_file_holds(tmp_path):
    (tmp_path / "lyrics.txt").write_text("[Verse]\nLa\n")
    assert text("--lyrics", f"@{tmp_path}/lyrics.txt") == "[Verse]\nLa"
    assert text("--lyrics", "La") == "La"
    with pytest.raises(MissingPrerequisite, match="--lyrics: '@absent': cannot be read"):
        text("--lyrics", "@absent")
