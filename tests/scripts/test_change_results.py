"""A result file of asv's is data: it is read as what asv writes, or is none, with the reason."""

import json
import math
import os

import pytest

from scripts.changes.history import History, doubt
from scripts.changes.results import FAILED, MOST_CELLS, NoResult, load
from scripts.changes.show import left_out

NAME = "vae.TimeVAEDecode.track_vae_decode"
CONTENT = {
    "version": 2, "commit_hash": "a" * 40, "env_name": "checkout", "params": {"machine": "a-cpu", "cpu": "A"},
    "result_columns": ["result", "params", "version", "started_at"],
    "results": {NAME: [[0.1, None, math.nan, 0], [["5", "15"], ["1", "2"]], "1", 1_790_000_000_000]},
    "conditions": {"a cell": {"other_cores": 1.5, "cores": 2}},
}  # fmt: skip


def read(path, content, versions=None):
    path.write_text(json.dumps(content))
    return load(path, versions or {NAME: "1"})


def row(**fields):
    """The content with something else in the row of the benchmark."""
    known = dict(zip(CONTENT["result_columns"], CONTENT["results"][NAME], strict=True))
    return CONTENT | {"results": {NAME: list((known | fields).values())}}


def test_what_asv_writes_is_read(tmp_path):
    result = read(tmp_path / "x.json", CONTENT)
    assert (result.commit, result.environment, result.facts["cpu"]) == ("a" * 40, "checkout", "A")
    assert result.columns == {NAME: {("5", "1"): 0.1, ("15", "2"): 0.0}}  # n/a is neither, nor is zero
    assert result.gaps == {NAME: {("5", "2"): "failed", ("15", "1"): "n/a"}}
    assert result.started_ms == 1_790_000_000_000 and result.conditions == CONTENT["conditions"]


NAMES = [*CONTENT["result_columns"], "duration", "stats_ci_99_a", "stats_ci_99_b"]


@pytest.mark.parametrize(
    ("ends", "interval"),
    [
        (([0.09, None, 0, 0], [0.12, None, 0, 0]), (0.09, 0.12)),
        (([-0.1, None, 0, 0], [0.12, None, 0, 0]), (0.0, 0.12)),  # of few samples
        (([-math.inf, None, 0, 0], [math.inf, None, 0, 0]), None),  # of one
        (([0.2, None, 0, 0], [0.3, None, 0, 0]), None),  # not around the value
        (([True, "x", [], {}], [0.3, None, 0, 0]), None),
        (([0.09], None), None),
        (([0.09], [0.12]), (0.09, 0.12)),
        (("x", {}), None),
    ],
)
def test_an_interval_is_one_around_its_value_or_none(tmp_path, ends, interval):
    rows = CONTENT["results"][NAME]
    content = CONTENT | {"result_columns": NAMES, "results": {NAME: [*rows, 1.0, *ends]}}
    result = read(tmp_path / "x.json", content)
    assert result.intervals[NAME].get(("5", "1")) == interval and ("5", "2") not in result.intervals[NAME]
    assert read(tmp_path / "x.json", CONTENT).intervals == {NAME: {}}


@pytest.mark.parametrize("versions", [{NAME: "2"}, {"another": "1"}])
def test_no_other_version_and_no_other_benchmark(tmp_path, versions):
    assert not any(read(tmp_path / "x.json", CONTENT, versions).columns.values())
    assert read(tmp_path / "x.json", CONTENT, {NAME: None}).columns[NAME]


@pytest.mark.parametrize(("version", "outdated"), [("2", {NAME}), ("1", set()), (None, set())])
def test_numbers_of_another_version_are_told(tmp_path, version, outdated):
    """Of benchmarks that there are; in words where a history has some."""
    assert read(tmp_path / "x.json", CONTENT, {NAME: version}).outdated == outdated
    history = History([], [], 0, [], outdated=frozenset(outdated | {"another"}))
    (line,) = left_out(history)
    assert line.startswith("Numbers of another version of another") and ("1 more" in line) == bool(outdated)


def test_a_benchmark_that_failed_as_a_whole_has_no_numbers(tmp_path):
    result = read(tmp_path / "x.json", row(result=None))
    assert result.columns == {NAME: {}}
    assert result.gaps[NAME] == dict.fromkeys((("5", "1"), ("5", "2"), ("15", "1"), ("15", "2")), FAILED)


def test_a_benchmark_that_failed_as_a_whole_has_no_more_cells_than_can_be(tmp_path):
    """Ten to the sixtieth would fill any memory."""
    huge = row(result=None, params=[["1", *map(str, range(999))]] * 20)
    assert len(read(tmp_path / "x.json", huge).gaps[NAME]) <= MOST_CELLS


HOSTILE = {
    "empty": b"",
    "no JSON": b"#!/bin/sh",
    "no text": b"\xff\xfe\0",
    "too deep": b"[" * 200_000,
    "too large": b" " * (16 * 2**20) + b"{}",
    "no object": b"[2]",
    "another format": CONTENT | {"version": 3},
    "no commit": CONTENT | {"commit_hash": None},
    "no machine": CONTENT | {"params": "a-cpu"},
    "no environment": CONTENT | {"env_name": ["checkout"]},
    "no rows": CONTENT | {"results": []},
    "no row": CONTENT | {"results": {NAME: 5}},
    "other columns": CONTENT | {"result_columns": ["params", "result"]},
    "no values": row(result=5),
    "too few values": row(result=[0.1]),
    "too many cells": row(params=[["1"] * 1000] * 20),
    "no parameters": row(params=None),
    "odd parameters": row(params=[[["5"]], ["1"]]),
    "text": row(result=["0.1"] * 4),
    "lists": row(result=[[0.1]] * 4),
    "flags": row(result=[True] * 4),
    "infinite": row(result=[math.inf] * 4),
    "no float": row(result=[10**400] * 4),
    "beyond all": row(result=[1e-320] * 4),
}


@pytest.mark.parametrize("kind", [*HOSTILE, "a pipe", "a folder", "nothing"])
def test_anything_else_is_no_result(tmp_path, kind):
    path, content = tmp_path / "x.json", HOSTILE.get(kind)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    elif kind != "nothing":
        (os.mkfifo if kind == "a pipe" else os.mkdir)(path)
    with pytest.raises(NoResult) as error:
        load(path, {NAME: "1"})
    assert len(str(error.value)) < 100 and str(error.value).isprintable()


@pytest.mark.parametrize("started", [None, "now", -1, 10**400, math.nan, math.inf, []])
def test_a_time_that_no_clock_shows_is_none(tmp_path, started):
    assert read(tmp_path / "x.json", row(started_at=started)).started_ms == 0


@pytest.mark.parametrize("known", [10**400, math.nan, math.inf, -1, "many", [1]])
def test_conditions_beyond_reason_make_nothing_doubtful(tmp_path, known):
    """Nor does what is none at all. The control: those above do."""
    assert doubt(CONTENT["conditions"]["a cell"])
    content = read(
        tmp_path / "x.json", CONTENT | {"conditions": {"a cell": {"other_cores": known, "cores": 2}}}
    )
    assert doubt(content.conditions["a cell"]) is None
    assert read(tmp_path / "x.json", CONTENT | {"conditions": known}).conditions == {}
    assert read(tmp_path / "x.json", CONTENT | {"conditions": {"a cell": known}}).conditions == {}
