"""What a call would cost, and what it is that had too little memory for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from harness import cards
from harness.trace.calls import predict_calls
from tests.toy_subject import SUBJECT

CARD = cards.find(cards.DEFAULT)


@contextmanager
def failing(error: Exception) -> Iterator[SimpleNamespace]:
    def run() -> None:
        raise error

    yield SimpleNamespace(stage="encode", run=run)


def test_a_card_that_is_too_small_is_no_cost_and_a_host_that_is_no_card():
    setup = SUBJECT.setup()
    too_small = [lambda engine: failing(torch.OutOfMemoryError("a segment does not fit"))]
    assert list(predict_calls(SUBJECT, setup, CARD, too_small)) == [None]
    with pytest.raises(MemoryError, match="no room"):
        list(predict_calls(SUBJECT, setup, CARD, [lambda engine: failing(MemoryError("no room"))]))
