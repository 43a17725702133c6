"""Print how close each model came to its oracle, and how far each negative control fell."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _plain_arithmetic() -> Iterator[None]:
    """No gradients, and one thread: matrices this small take longer to share out than to multiply."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    oracles = sys.modules.get("oracles")
    if oracles is None or not oracles.closeness:
        return
    terminalreporter.section("relative RMS against the oracles")
    for (model, dtype), error in sorted(oracles.closeness.items()):
        terminalreporter.line(f"{model:24} {dtype:9} {error:.1e}")
    for (model, control), error in sorted(oracles.tripping.items()):
        terminalreporter.line(f"{model:24} {error:.1e}  control: {control}")
