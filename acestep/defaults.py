"""Defaults of a request, one constant each. No torch import here."""

from __future__ import annotations

from harness.subject import DEFAULT_DURATION_S as DEFAULT_DURATION_S
from harness.subject import DEFAULT_SEED as DEFAULT_SEED

DEFAULT_EXAMPLE = "example_05.json"  # of examples/text2music
EXAMPLE_NAMES = f"short, medium, long, or a name of examples/text2music ({DEFAULT_EXAMPLE})"
CHUNK_S = 1.0  # of a stream
