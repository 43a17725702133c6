"""Our own model, which the others are compared with."""

import pytest
import torch
from scenarios import CPU, LM, SOURCE

from acestep.lm.backends.pt_backend import PT
from acestep.lm.grammar import constraint
from acestep.weights.checkpoint import Source
from harness.checkpoint import materialise, on_meta
from harness.nn.config import Qwen3Config, parse_config
from harness.nn.qwen3 import Qwen3


@pytest.fixture(autouse=True)
def _small_and_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint, "CAPTION_TOKENS", 6)
    monkeypatch.setattr(constraint, "GENRES_TOKENS", 3)
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def pt() -> PT:
    return our_own(SOURCE)


def our_own(source: Source, dtype: torch.dtype = torch.float32) -> PT:
    config = parse_config(source.config(LM), Qwen3Config, LM)
    model: Qwen3 = on_meta(lambda: Qwen3(config))
    materialise(model, source.weights(LM).read, device=CPU, dtype=dtype)
    return PT(model, CPU)
