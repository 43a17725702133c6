"""Defaults of a request, one constant each. No torch import here."""

from __future__ import annotations

from harness.subject import DEFAULT_DURATION_S as DEFAULT_DURATION_S
from harness.subject import DEFAULT_SEED as DEFAULT_SEED

DEFAULT_EXAMPLE = "example_05.json"  # of examples/text2music


def length_s(*durations_s: float | None) -> float:
    """Seconds of audio: the first of `durations_s` that is known, or the default where none is."""
    return next(filter(None, durations_s), DEFAULT_DURATION_S)
