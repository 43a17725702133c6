"""One tiny engine for the tests that only ask it questions."""

import pytest

from acestep.engine import Engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine.load("synthetic-tiny", device="cpu")
