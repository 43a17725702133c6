"""How an engine is loaded: where to, in what time, and what of a device that is none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from harness.engine import loading
from harness.errors import UsageError


def test_the_seconds_are_those_of_all_that_is_loaded_and_of_finding_its_devices(monkeypatch):
    now = iter((3.0, 10.0))
    monkeypatch.setattr("harness.engine.time", SimpleNamespace(perf_counter=lambda: next(now)))
    with loading("cpu", ["cpu", "cpu"]) as loads:
        assert (loads.device, loads.beside) == (torch.device("cpu"), [torch.device("cpu")] * 2)
        assert loads.seconds == 0.0
    assert loads.seconds == 7.0


def test_every_device_is_held_to_its_precision_before_anything_is_loaded(monkeypatch):
    held = []
    monkeypatch.setattr("harness.engine.hold_precision", held.append)
    with loading("cpu", ["cpu"]):
        assert held == [torch.device("cpu")] * 2


def test_a_device_that_is_none_is_refused_before_anything_is_loaded(monkeypatch):
    freed = []
    monkeypatch.setattr("harness.engine.return_freed_memory", lambda: freed.append(True))
    for devices in (("tpu", []), ("cpu", ["meta"])):
        with pytest.raises(UsageError, match="use auto, cuda, cuda:N, mps or cpu"), loading(*devices):
            raise AssertionError
    assert freed == []
