"""Seeds, however they are written and wherever: what is named is used, and -1, "" and null draw one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acestep.__main__ import _parser as parser
from acestep.cli.examples import load_description, load_example
from acestep.cli.request import requested_music, requested_words
from acestep.cli.seeds import DRAWN, one_seed, seed_of
from acestep.cli.upstream import LeftOut
from acestep.profiler.options import parse
from acestep.request import MAX_SEED
from harness.adjustments import Adjustments
from harness.errors import UsageError

DRAWING = (*DRAWN, "-1", " -1 ")
WAYS = ("--set", "--seed")  # of writing the seed on a command line


def collected() -> LeftOut:
    return LeftOut(Adjustments(strict=False))


def typed(way: str, seed: int) -> list[str]:
    return ["--set", f"seed={seed}"] if way == "--set" else ["--seed", str(seed)]


@pytest.mark.parametrize(
    ("written", "seed"),
    [
        (7, 7),
        (" 7 ", 7),
        ("0", 0),
        ("3, 9", [3, 9]),
        *((value, None) for value in DRAWING),
        *((value, value) for value in ("x", "7,", "1.5", 1.5, -2, [1], True, "٨")),
    ],
)
def test_a_seed_is_read_in_each_of_its_forms(written, seed):
    assert seed_of(written) == seed and type(seed_of(written)) is type(seed)


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [
        ({}, (42,)),
        ({"seed": 7, "batch_size": 2}, (7, 8)),
        ({"seed": "7"}, (7,)),
        *(({"seed": value}, None) for value in DRAWING),
        ({"seed": 7, "use_random_seed": False}, (7,)),
        ({"seed": 7, "use_random_seed": True}, None),
        ({"seeds": [3, 9], "batch_size": 2}, (3, 9)),
        ({"seeds": None, "seed": 5}, (5,)),
        ({"seed": "3, 9", "batch_size": 2}, (3, 9)),
        ({"seeds": 7, "batch_size": 2}, (7, 8)),
        ({"seeds": "3, 9", "batch_size": 2}, (3, 9)),
        ({"seeds": "", "seed": 5}, (5,)),
    ],
)
def test_seeds_of_music_are_said_or_drawn_when_it_is_made(write, fields, seeds):
    assert load_example(write(fields))[1].seeds == seeds


@pytest.mark.parametrize("way", WAYS)
def test_a_flag_and_a_setting_mean_the_same_for_music(way: str):
    def seeds(seed: int) -> Any:
        line = ["generate", "--caption", "dub", "--batch-size", "2", *typed(way, seed)]
        return requested_music(parser().parse_args(line)).config.seeds

    assert (seeds(7), seeds(-1)) == ((7, 8), None)
    for seed in (-2, MAX_SEED + 1):
        with pytest.raises(UsageError, match=f"seed: {seed} is not allowed; use a whole number from 0 to"):
            seeds(seed)


@pytest.mark.parametrize("way", WAYS)
def test_words_have_the_seed_that_is_named_or_a_drawn_one_that_is_told(way: str, capsys):
    def seed_of_words(seed: int) -> int:
        return requested_words(parser().parse_args(["create", "dub", *typed(way, seed)])).seed

    assert seed_of_words(7) == 7 and not capsys.readouterr().err
    drawn = [seed_of_words(-1) for _ in range(4)]
    assert len(set(drawn)) > 1
    assert [line.split()[3] for line in capsys.readouterr().err.splitlines()] == [*map(str, drawn)]


@pytest.mark.parametrize("value", DRAWING)
def test_words_in_a_file_draw_too(write, value):
    left_out = collected()
    drawn = load_description(write({"query": "dub", "seed": value}), left_out).seed
    assert left_out.notes == [f"seed: {drawn} is drawn, which repeats this"]


@pytest.mark.parametrize("value", ["x", "3, 9", [3], 1.5])
def test_what_is_no_seed_of_words_is_refused_as_it_was_given(write, value):
    with pytest.raises(UsageError) as refused:
        load_description(write({"query": "dub", "seed": value}))
    assert f"seed: {value!r} is not allowed; use a whole number" in str(refused.value)


def test_a_profile_draws_one_seed_for_all_its_rows_where_the_file_does(write):
    path = write({"caption": "dub", "seed": -1, "batch_size": 2})

    def profiled(*flags: str) -> Any:
        return parse(["--example", str(path), *flags], {}, Path("/nowhere"))

    options = [profiled() for _ in range(4)]
    assert len({found.config.seeds for found in options}) > 1
    for found in options:
        assert found.config.seeds
        first, second = found.config.seeds
        assert second == (first + 1) % (MAX_SEED + 1)
        assert found.left_out.notes == [f"seed: {first} is drawn, which repeats this"]
    named = profiled("--seed", "7")
    assert named.config.seeds == (7, 8) and not named.left_out.notes


def test_a_drawn_seed_is_one_of_those_there_are():
    assert all(0 <= one_seed(None, []) <= MAX_SEED for _ in range(100))


@pytest.mark.parametrize(
    ("fields", "expected", "told"),
    [
        ({"retake_seed": "7"}, 7, 0),
        ({"retake_seed": 7}, 7, 0),
        ({"retake_seed": [7]}, 7, 0),
        ({"retake_seed": [7, 9]}, 7, 1),
        ({"retake_seed": "7, 9"}, 7, 1),
        *(({"retake_seed": value}, None, 0) for value in (*DRAWING, [-1])),
    ],
)
def test_the_seed_of_a_retake_is_read_as_upstream_writes_it(write, fields, expected, told):
    left_out = collected()
    params, _ = load_example(write({"retake_variance": 0.2} | fields), left_out)
    assert params.retake_seed == expected
    assert [change.field for change in left_out.changes] == ["retake_seed"] * told
