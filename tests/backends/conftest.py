"""Our own model, which the others are compared with."""

import pytest
import torch
from scenarios import SOURCE, our_own

from acestep.lm.backends.pt_backend import PT
from acestep.lm.grammar import constraint


@pytest.fixture(autouse=True)
def _small_and_without_gradients(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constraint, "CAPTION_TOKENS", 6)
    monkeypatch.setattr(constraint, "GENRES_TOKENS", 3)
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def pt() -> PT:
    return our_own(SOURCE)
