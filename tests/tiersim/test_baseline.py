"""Worse than before, or not."""

from dataclasses import replace

import pytest
from tier_records import record

from harness.errors import MissingPrerequisite
from tiersim import baseline, document

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
        "worse  12GB default, no LM, batch 1: peak 4,096.0 MiB before, 8,192.0 now (+100.0%)",
        "changed  8GB default, no LM, batch 1: peak 7,168.0 MiB before, 6,144.0 now (-14.3%)",
    ]


def test_only_what_ran_the_same_is_compared():
    one = record(8, peak_gb=4)
    assert changes(replace(one, key="other", peak_bytes=one.peak_bytes * 2), one) == []


def test_a_baseline_that_is_not_there_is_missing(tmp_path):
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(MissingPrerequisite):
            baseline.load(path, ())
