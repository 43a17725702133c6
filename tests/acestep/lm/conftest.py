"""Codes by hand, and the mode that steps run in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from code_steps import CASES, Codes, by_hand


@pytest.fixture
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def expected() -> dict[str, Codes]:
    """The codes of each case by hand, before anything is damaged."""
    return {name: by_hand(case) for name, case in CASES.items()}
