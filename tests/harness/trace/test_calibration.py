"""What was measured of a card takes the place of the rules, for its capability and no other."""

import json
from dataclasses import asdict

import pytest
import torch
from allocations import cost

from harness.trace import calibration, libraries
from harness.trace.calibration import Calibration
from harness.trace.libraries import CUDA

MEASURED = Calibration("8.9", "RTX 4090", "2026-01-02", "600.1", "2.13.0", "91900", 700.0, 5 << 20, 2.5)


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps([asdict(MEASURED)]))
    found = calibration.find
    monkeypatch.setattr(calibration, "find", lambda capability: found(capability, path))
    return path


def test_a_row_is_for_its_capability(table):
    assert calibration.find((8, 9)) == MEASURED
    assert calibration.find((9, 0)) is None


def test_without_a_table_there_is_none(tmp_path):
    assert calibration.find((8, 9), tmp_path / "none.json") is None


def test_workspaces_are_the_measured_ones():
    conv = torch.ops.aten.convolution.default
    x = torch.empty(1, 4, 100, dtype=torch.bfloat16, device="meta")
    by_rule, measured = CUDA((8, 9)), CUDA((8, 9), MEASURED)
    assert (by_rule.workspace_bytes(conv, (x,)), measured.workspace_bytes(conv, (x,))) == (800, 2000)
    assert (by_rule.blas_bytes, measured.blas_bytes) == (libraries.BLAS_BYTES, 5 << 20)
    assert by_rule.calibration == libraries.UNCALIBRATED


def test_a_prediction_says_which(table):
    """The table is of the card that predictions are for by default."""
    measured = cost()
    assert measured.environment["calibration"] == (
        "calibrated on RTX 4090, driver 600.1, torch 2.13.0, 2026-01-02"
    )
    assert measured.peak_bytes - measured.peak_reserved_bytes == 700 << 20
    table.write_text("[]")
    assert cost().environment["calibration"] == libraries.UNCALIBRATED
