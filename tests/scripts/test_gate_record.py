"""A record is written and read back; what is none of ours is refused at the field that is wrong."""

import json
from dataclasses import asdict, replace

import pytest

from harness.errors import UsageError
from scripts.gate import record
from scripts.gate.record import MAX_BYTES, Commit, Fit, Machine, Record, Series

SERIES = Series(
    "dit.TimeDiT.track_diffuse", (("duration_s", "5"), ("batch", "1")), "diffuse", "DiT", "seconds", "timed",
    "slower", 0.13, 0.195, 1.5, 1.46, 1.53, 0.04, 16, 16,
)  # fmt: skip
RECORD = Record(
    Commit("a" * 40, "Base"), Commit("b" * 40, "Head", working_tree=True), "slower",
    Machine("cpu", "A CPU", 2, "none", "2.13.0", 0.5, None, None), "synthetic-tiny", "2026-01-01T00:00:00Z",
    300.5, 1200, 4, 0.1, 0.005, (SERIES, replace(SERIES, verdict="not measured", head=None, reason="broken")),
    (Fit("no-quant", 8.0, "fits", "out of memory"),), ("a note",), "python -m scripts.gate a b",
)  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    record.write(tmp_path / "new" / "gate.json", RECORD)
    assert record.read(tmp_path / "new" / "gate.json") == RECORD
    assert SERIES.name == "dit.TimeDiT.track_diffuse(5, 1)"


WRONG = {
    "verdict": ("fine", "record.verdict is none of slower"),
    "version": (2, "record.version is none of 1"),
    "format": ("other", "record.format is none of"),
    "rounds": (-1, "record.rounds is not from 0 to"),
    "seconds": (10**400, "record.seconds is not from 0 to"),
    "threshold": ("0.1", "record.threshold is no float"),
    "budget_s": (True, "record.budget_s is no float"),
    "command": ("x" * 2001, "record.command is longer than 2,000"),
    "notes": (["x"] * 101, "record.notes is longer than 100"),
    "fits": ([{}], r"record.fits\[0\] has no base"),
    "series": ({}, "record.series is no list"),
    "head": ([], "record.head is no object"),
    "base": (asdict(RECORD.base) | {"more": 1}, "record.base has 1 fields too many"),
    "machine": (asdict(RECORD.machine) | {"throttled": 1}, "record.machine.throttled is no bool"),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_is_wrong_is_named(field):
    value, message = WRONG[field]
    with pytest.raises(UsageError, match=message) as caught:
        record.parse(json.dumps(asdict(RECORD) | {field: value}).encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ratio", -1.0, "series[0].ratio is not from"),
        ("params", [["a"]], "series[0].params[0] has not 2 items"),
        ("kind", None, "series[0].kind is none of"),
        ("samples_head", 1.5, "series[0].samples_head is no int"),
    ],
)
def test_a_field_of_a_series_that_is_wrong_is_named(field, value, message):
    content = asdict(RECORD) | {"series": [asdict(SERIES) | {field: value}]}
    with pytest.raises(UsageError) as caught:
        record.parse(json.dumps(content).encode())
    assert message in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"rounds": NaN}', b"null"])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(UsageError):
        record.parse(data)


def test_a_file_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "large").write_bytes(b" " * (MAX_BYTES + 1))
    for name, message in {"large": "is over", "none": "cannot be read", "": "cannot be read"}.items():
        with pytest.raises(UsageError, match=message):
            record.read(tmp_path / name)
