"""Whether two values of a series are compared by their ratio, or by their difference.

Decibels and exponents are logarithms already: -40 dB and -38 dB are 2 dB apart, not 5 %. An intercept may be
on either side of zero, and the numbers of exit codes mean nothing. Of these a ratio says nothing.
"""

from __future__ import annotations

UNITS = ("dB", "log-log slope", "exit code")
METHODS = ("track_intercept",)


def by_difference(unit: str, benchmark: str) -> bool:
    """Whether values in `unit` of a benchmark, named as asv does, are compared by their difference."""
    return unit in UNITS or benchmark.rpartition(".")[2] in METHODS
