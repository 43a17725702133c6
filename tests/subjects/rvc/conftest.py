"""One engine of tiny weights for all."""

import pytest
import torch

from subjects.rvc.engine import Engine


@pytest.fixture(scope="package")
def engine() -> Engine:
    torch.set_num_threads(1)
    return Engine.load("synthetic-tiny", device="cpu")
