"""How often host and card wait for each other: what the table allows, from both sides."""

import json
import re
import tomllib
from functools import cache

import pytest
from allocations import fewer_layers
from places import ROOT

from acestep.audio.tile import Tiles
from acestep.lm.decode.selector import CodeDecoder
from acestep.models.dit import DiTLayer
from benchmarks import waits
from benchmarks._matrix import WAITS_BATCHES, cell
from harness.trace.cost import StageCost

BUDGET = "docs/waits.toml"
ALLOWED = tomllib.loads((ROOT / BUDGET).read_text())
EAGER, RECORDED = ("turbo", "eager"), ("base", "captured")  # base is guided, and of two items


@pytest.fixture(scope="module", autouse=True)
def small_models():
    with fewer_layers():
        yield


@pytest.fixture(scope="module")
def record(inside):
    """The record of a cell as a reader of the file finds it, measured once."""
    return cache(lambda variant, mode: measure(inside, variant, mode))


def measure(inside, variant, mode):
    return json.loads(json.dumps(inside.predictions.measure(cell("waits", variant=variant, mode=mode))))


def units(request, batch):
    """How many there are of what a section of the table counts by."""
    made = {unit: request["counts"][count] for unit, (_, count) in waits.LOOPS.items()}
    return made | {"item": batch, "request": 1}


def differences(record, batch):
    """A line for each stage that waits more or less often than the table says, in either request."""
    found = []
    for way in ("reads", "copies"):
        few, more = record["requests"]
        for stage in few[way].keys() | {stage for section in ALLOWED.values() for stage in section}:
            counted, allowed = [], []
            for request in (few, more):
                counted.append(sum(request[way].get(stage, {}).values()))
                times = units(request, batch)
                allowed.append(
                    sum(times[unit] * of.get(stage, {}).get(way, 0) for unit, of in ALLOWED.items())
                )
            if counted != allowed:
                lines = ", ".join(f"{line} ({count})" for line, count in more[way].get(stage, {}).items())
                found.append(
                    f"{stage}: {counted} {way} of the smaller and of the larger request, {BUDGET} has "
                    f"{allowed}; of the larger {lines or 'none'}"
                )
    return found


@pytest.mark.parametrize("variant, mode", [EAGER, RECORDED], ids=str)
def test_host_and_card_wait_as_often_as_the_table_says(record, variant, mode):
    measured = record(variant, mode)
    few, more = (units(request, 0) for request in measured["requests"])
    assert all(few[unit] < more[unit] for unit in waits.LOOPS), "a loop is no longer"
    found = differences(measured, WAITS_BATCHES[variant])
    assert not found, "\n".join(found)
    for unit in waits.LOOPS:
        assert [waits.per_unit(measured, way, unit) for way in ("reads", "copies")] == [0, 0]
    assert waits.per_request(measured, "reads") == 6 + WAITS_BATCHES[variant]


# Where a loop is planted with a read, how many that is of each of what the loop makes, and whose line it is.
PLANTED = [
    (CodeDecoder, "next", "code", 1, "acestep/lm/decode/step.py", "CodeStep.__call__"),
    (DiTLayer, "forward", "step", 2, "acestep/models/dit.py", "DiT._velocity"),  # of two layers, traced once
    (Tiles, "_run", "tile", 1, "harness/captured.py", "Captured.run"),
]


def test_what_some_of_a_loop_do_is_not_taken_from_the_request():
    """One read for each hundred codes, and six beside those: none of what a request reads is below zero."""
    record = {
        "requests": [
            {
                "reads": {"lm_decode": {"a line": 6 + codes // 100}, "diffuse": {}, "vae_decode": {}},
                "counts": {"audio_codes": codes, "dit_steps": steps, "vae_tiles": steps},
            }
            for codes, steps in ((200, 2), (400, 3))
        ]
    }
    assert waits.per_unit(record, "reads", "code") == 1
    assert waits.per_request(record, "reads") == 6


def test_a_figure_that_is_too_high_is_told_as_well(record, monkeypatch):
    monkeypatch.setitem(ALLOWED["request"], "text_encode", {"copies": 3})
    (line,) = differences(record(*EAGER), WAITS_BATCHES["turbo"])
    assert line.startswith(
        f"text_encode: [2, 2] copies of the smaller and of the larger request, {BUDGET} has [3"
    )


def test_a_commit_that_counts_none_is_not_measured(inside, monkeypatch):
    fields = {name: one for name, one in StageCost.__dataclass_fields__.items() if name != "reads"}
    monkeypatch.setattr(StageCost, "__dataclass_fields__", fields)
    with pytest.raises(inside.commit.Unsupported, match="does not count copies"):
        measure(inside, *EAGER)


def test_a_value_read_back_in_a_loop_is_told_with_its_line(inside, monkeypatch):
    for owner, name, *_ in PLANTED:
        monkeypatch.setattr(owner, name, reading_back(getattr(owner, name)))
    measured = measure(inside, *RECORDED)
    found = {line.partition(":")[0]: line for line in differences(measured, WAITS_BATCHES["base"])}
    assert found.keys() >= {"lm_decode", "diffuse", "vae_decode"}  # what is to be recorded runs once before
    for _, _, unit, reads, file, function in PLANTED:
        stage, _ = waits.LOOPS[unit]
        assert waits.per_unit(measured, "reads", unit) == reads
        assert waits.per_unit(measured, "copies", unit) == 0
        assert re.search(rf"aten::_local_scalar_dense at {file}:\d+ {re.escape(function)} \(", found[stage])


def reading_back(function):
    def planted(*args, **kwargs):
        result = function(*args, **kwargs)
        result.sum().item()
        return result

    return planted
