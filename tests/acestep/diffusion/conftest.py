"""For tests of what is compiled: a cache of their own, nobody's graphs left over, and a look at theirs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from harness.compiling import CACHE_VARIABLE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache directory, with one cache of graphs for this file."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def unhampered(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One cache for this file, nobody's graphs left over, and the weights' mode."""
    monkeypatch.setenv(CACHE_VARIABLE, str(home / "acestep" / "inductor"))
    torch.compiler.reset()
    counters.clear()
    with torch.inference_mode():
        yield
    torch.compiler.reset()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[torch.fx.GraphModule]:
    """Graphs that were compiled, by a backend that runs them as they are."""
    seen: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return seen
