"""Worse than before, or not."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tier_records import record

from harness.errors import MissingPrerequisite
from harness.records import writer as output
from tiersim import baseline, document
from tiersim.case import Case, resolve

PLAN = resolve(Case(8, source="synthetic-tiny", cap="virtual"))
GB = 1.0
MIB = 1 / 1024


def changes(now, before):
    return baseline.compare([document.item(now)], [document.item(before)])


@pytest.mark.parametrize(
    ("before_gb", "now_gb", "worse"),
    [
        (1, 1, None),
        (1, 1 + 30 * MIB, None),  # under 3 %
        (1, 1 + 31 * MIB, True),
        (1, 1 - 31 * MIB, False),
        (20, 20 + 63 * MIB, None),  # under 64 MiB
        (20, 20 + 65 * MIB, True),
    ],
)
def test_memory(before_gb, now_gb, worse):
    found = changes(record(24, peak_gb=now_gb), record(24, peak_gb=before_gb))
    assert [change.worse for change in found] == ([] if worse is None else [worse])


@pytest.mark.parametrize(
    ("before", "now", "worse"),
    [
        ("ok", "oom", True), ("ok", "crash", True), ("oom", "ok", False), ("oom", "timeout", False),
        ("skip", "oom", None), ("ok", "skip", None), ("oom", "oom", None),
    ],
)  # fmt: skip
def test_status(before, now, worse):
    found = changes(record(8, now, 7.0), record(8, before, 7.0))
    assert [change.worse for change in found] == ([] if worse is None else [worse])


def test_the_worse_come_first_and_say_what_and_by_how_much():
    pairs = [(record(8, peak_gb=6), record(8, peak_gb=7)), (record(12, peak_gb=8), record(12, peak_gb=4))]
    now, before = ([document.item(side) for side in sides] for sides in zip(*pairs, strict=True))
    assert [str(change) for change in baseline.compare(now, before)] == [
        "worse  12 GB (RTX 3060) default, no LM, batch 1: peak 4,096.0 MiB before, 8,192.0 now (+100.0%)",
        "changed  8 GB (RTX 4060) default, no LM, batch 1: peak 7,168.0 MiB before, 6,144.0 now (-14.3%)",
    ]


def test_only_what_ran_the_same_is_compared():
    one = record(8, peak_gb=4)
    assert changes(replace(one, key="other", peak_bytes=one.peak_bytes * 2), one) == []


def test_a_baseline_that_is_not_there_is_missing(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(MissingPrerequisite):
            baseline.load(path, ())


def written(path, **changes):
    """A results file whose one case has what JSON can say of it, and a record may not."""
    made = document.item(record(8, peak_gb=4))
    with output.Writer(path, document.header([PLAN], [])) as writer:
        writer.add(made)
    text = json.loads(path.read_text())
    for name, value in changes.items():
        (text["items"][0]["card"] if name == "peak_bytes" else text["items"][0])[name] = value
    path.write_text(json.dumps(text))
    return made


@pytest.mark.parametrize("peak", [10**400, -1, 0.5, True, "1", 2**63, 10**4_000])
def test_a_baseline_of_impossible_sizes_is_one_line(tmp_path, peak):
    made = written(tmp_path / "r.json", peak_bytes=peak)
    with pytest.raises(MissingPrerequisite, match=r"r\.json'.*(not a valid|not a whole)") as refused:
        baseline.load(tmp_path / "r.json", [made.key])
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"peak_bytes": 0}, "peak 0.0 MiB before, 4,096.0 now"),
        ({"peak_bytes": 2**63 - 1}, "8,796,093,022,208.0 MiB before"),
        ({"effective": {"lm": 7, "batch_size": [10**400]}, "status": "oom"}, "oom before, ok now"),
    ],
)
def test_a_baseline_of_odd_values_is_compared(tmp_path, changes, shown):
    made = written(tmp_path / "r.json", **changes)
    [change] = baseline.compare([made], baseline.load(tmp_path / "r.json", [made.key]))
    assert shown in str(change)


def test_a_baseline_that_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "results.json").mkdir()
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), tmp_path / "\udcff", tmp_path / "a\0b"):
        with pytest.raises(MissingPrerequisite, match="cannot be read: ") as refused:
            baseline.load(path, ())
        assert "\n" not in str(refused.value)
