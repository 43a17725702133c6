"""Traces of torch's profiler: whole, or none and told."""

from pathlib import Path

import pytest
import torch
from full_disk import room

from harness import chrome_trace
from harness.errors import BenchError


def trace(path: Path) -> None:
    chrome_trace.kernels(lambda: [torch.ones(4) + 1 for _ in range(100)], path)


def test_a_trace_is_known_by_its_head(tmp_path: Path):
    path = tmp_path / "trace.json"
    trace(path)
    assert chrome_trace.is_one(path.read_bytes()[:200]) and [*tmp_path.iterdir()] == [path]


def test_a_disk_that_is_full_leaves_no_trace_and_no_part_of_one(tmp_path: Path):
    """The profiler itself says so only in its log."""
    path = tmp_path / "trace.json"
    path.write_bytes(b"before")
    with room(4096), pytest.raises(BenchError, match=r"trace\.json' cannot be written: .*is the disk full"):
        trace(path)
    assert path.read_bytes() == b"before" and [*tmp_path.iterdir()] == [path]
