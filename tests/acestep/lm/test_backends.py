"""Backends of the language model as a setup has them opened."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from acestep.lm.backends.registry import open_backend
from acestep.weights.layout import LMS
from acestep.weights.sources import open_source


@pytest.mark.parametrize("graphs", [False, True])
def test_vllm_records_its_steps_where_the_engine_does(graphs: bool, monkeypatch: pytest.MonkeyPatch):
    hooks = SimpleNamespace(LOAD_FORMAT="ours", processor_of=lambda requests: None)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=lambda *_, **options: options))
    monkeypatch.setitem(sys.modules, "acestep.lm.backends.vllm_hooks", hooks)
    models: Any = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    source = open_source("synthetic-tiny")
    backend: Any = open_backend("vllm", models, source, LMS[0], graphs)
    assert backend._open(source.weights(LMS[0]), 0, 0)["enforce_eager"] is not graphs
