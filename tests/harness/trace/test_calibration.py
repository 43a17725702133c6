"""What was measured of a card takes the place of rules, for it and its capability; a bad file never does."""

import json
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from allocations import CARD, cost
from places import ROOT

from harness import cards
from harness.errors import UsageError
from harness.trace import calibration, libraries
from harness.trace.calibration import FOLDER, UNCALIBRATED, Calibration, find, read
from harness.trace.libraries import CUDA

ROW: dict[str, Any] = {
    "format": calibration.FORMAT,
    "card": "NVIDIA GeForce RTX 4090",
    "capability": "8.9",
    "memory_gib": 23.6,
    "date": "2026-01-02",
    "driver": "600.1",
    "torch": "2.13.0",
    "cudnn": "91900",
    "dtype": "bfloat16",
    "context_mib": 700.0,
    "blas_bytes": 5 << 20,
    "convolution_copies": 2.5,
    "launch_us": 3.9,
    "kernel_us": 1.1,
    "to_card_gb_per_s": 24.5,
    "to_host_gb_per_s": 25.5,
    "products": [{"rows": 1, "inner": 2048, "columns": 6144, "tflop_per_s": 0.9, "gb_per_s": 890.0}],
    "copies": [{"bytes": 1 << 30, "gb_per_s": 910.0}],
}
NAME = "geforce-rtx-4090-24gb.json"
MEASURED = msgspec.convert(ROW, Calibration)


def put(folder: Path, name: str = NAME, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(ROW | changes))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(calibration, "FOLDER", tmp_path)
    put(tmp_path)
    return tmp_path


def test_every_calibration_here_is_right():
    """What a pull request that brings one is held to: `read` says what is wrong with it."""
    assert all(read(path).products for path in sorted(FOLDER.glob("*.json")))
    assert find(CARD).left_out == []


def test_the_folder_is_beside_the_packages():
    """In a checkout, and where they are installed."""
    assert Path(calibration.__file__).parents[2] / "calibrations" == FOLDER and FOLDER.is_dir()


def test_a_file_is_for_its_capability(folder):
    assert find(CARD).measured == MEASURED
    assert find(cards.find("rtx4060")).measured == MEASURED
    assert find(cards.find("h200")) == (None, [])


def test_the_very_card_is_nearer_than_another_and_then_the_latest(folder):
    put(folder, "geforce-rtx-4080-16gb.json", card="GeForce RTX 4080", memory_gib=15.6, date="2026-03-01")
    put(folder, "geforce-rtx-4060-8gb.json", card="GeForce RTX 4060", memory_gib=7.6, date="2026-02-01")
    names = {name: find(cards.find(name)).measured.card for name in ("rtx4090", "rtx4060", "rtx4070ti")}  # type: ignore[union-attr]
    assert names == {
        "rtx4090": "NVIDIA GeForce RTX 4090",
        "rtx4060": "GeForce RTX 4060",
        "rtx4070ti": "GeForce RTX 4080",
    }


def test_without_a_folder_there_is_none(tmp_path):
    assert str(find(CARD, tmp_path / "none")) == UNCALIBRATED


def test_workspaces_are_the_measured_ones():
    conv = torch.ops.aten.convolution.default
    x = torch.empty(1, 4, 100, dtype=torch.bfloat16, device="meta")
    by_rule, measured = CUDA((8, 9)), CUDA((8, 9), MEASURED)
    assert (by_rule.workspace_bytes(conv, (x,)), measured.workspace_bytes(conv, (x,))) == (800, 2000)
    assert (by_rule.blas_bytes, measured.blas_bytes) == (libraries.BLAS_BYTES, 5 << 20)


def test_a_prediction_says_which(folder):
    """The file is of the card that predictions are for by default."""
    measured = cost()
    assert measured.environment["calibration"] == (
        "calibrated on NVIDIA GeForce RTX 4090, driver 600.1, torch 2.13.0, 2026-01-02"
    )
    assert measured.peak_bytes - measured.peak_reserved_bytes == 700 << 20
    (folder / NAME).unlink()
    assert cost().environment["calibration"] == UNCALIBRATED


def test_a_prediction_outlives_a_broken_file_and_says_so(folder):
    put(folder, launch_us=-1)
    by_rule = cost()
    assert by_rule.environment["calibration"] == (
        f"uncalibrated (left out {NAME}: launch_us: Expected `float` >= 0.0)"
    )
    assert by_rule.peak_bytes - by_rule.peak_reserved_bytes == CARD.context_bytes


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a number out of range": ({"kernel_us": 1e9}, "kernel_us: Expected `float` <= 10000.0"),
    "a number that is text": ({"context_mib": "700"}, "context_mib: Expected `float`, got `str`"),
    "a row of a table": ({"copies": [{"bytes": 1, "gb_per_s": 0}]}, "copies[0].gb_per_s: Expected `float`"),
    "an empty table": ({"products": []}, "products: Expected `array` of length >= 1"),
    "a field too many": ({"watts": 3}, "Object contains unknown field `watts`"),
    "an order to a terminal": ({"driver": "\x1b[2J"}, "driver: Expected `str` matching regex"),
    "another version": ({"format": "acestep-calibration/9"}, "format: Invalid value"),
    "another capability": ({"capability": "9.0"}, "capability: 9.0 is not GeForce RTX 4090's, 8.9"),
    "another card's name": ({"card": "GeForce RTX 4080"}, "is of GeForce RTX 4080, whose file is"),
    "a day": ({"date": "yesterday"}, "date: Expected `str` matching regex"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line_with_file_field_and_what_is_allowed(tmp_path, name):
    changes, words = BROKEN[name]
    with pytest.raises(UsageError) as refusal:
        read(put(tmp_path, **changes))
    text = str(refusal.value)
    assert text.startswith(f"{NAME}: ") and words in text and "\n" not in text and "\x1b" not in text
    assert read(put(tmp_path)) == MEASURED  # the control


HOSTILE = {
    "no JSON": b"{",
    "a bare number": b"7",
    "no text": b"\xff\xfe",
    "too deep": b"[" * 60_000,
    "too long": b" " * (calibration.MAX_BYTES + 1),
    "a number beyond all": b'{"format": "acestep-calibration/1", "blas_bytes": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_and_no_prediction_dies_of_it(folder, name):
    (folder / "x.json").write_bytes(HOSTILE[name])
    with pytest.raises(UsageError, match=r"^x\.json: "):
        read(folder / "x.json")
    found = find(CARD)
    assert found.measured == MEASURED and len(found.left_out) == 1
    assert "\n" not in str(found) and len(str(found)) < 400


def test_what_is_no_file_is_not_waited_for(folder):
    (folder / "y.json").mkdir()
    assert find(CARD).left_out == ["left out y.json: cannot be read: it is a folder"]


def test_a_card_that_is_not_in_the_table_has_to_be_described(tmp_path):
    unknown = {"card": "NVIDIA RTX 9999", "memory_gib": 30.0}
    with pytest.raises(UsageError, match=r"card: cards\.toml has none of this name"):
        read(put(tmp_path, "rtx-9999-32gb.json", **unknown))
    peaks = {"tflop_per_s": 900, "gb_per_s": 3000, "source": "data sheet"}
    assert read(put(tmp_path, "rtx-9999-32gb.json", described=peaks, **unknown)).described


@pytest.mark.parametrize(
    ("driver", "memory_gib", "name"),
    [
        ("NVIDIA GeForce RTX 4090", 23.5, "GeForce RTX 4090"),
        ("NVIDIA H200", 139.8, "H200"),
        ("NVIDIA GeForce RTX 3080", 9.65, "GeForce RTX 3080"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 15.7, None),
        ("NVIDIA GeForce RTX 4090", 11.0, None),
    ],
)
def test_a_card_is_known_by_its_drivers_name_and_size(driver, memory_gib, name):
    known = cards.known(driver, memory_gib)
    assert (known and known.name) == name


def test_an_installed_package_has_the_files_too():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert FOLDER.name in setuptools["packages"]["find"]["include"]
    assert setuptools["package-data"][FOLDER.name] == ["*.json"]
