"""What the environment asks for: how much of each axis, which cells, and how often each is timed."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from .axes import AXES

FILTER, REPEATS = "ACESTEP_BENCH_CELLS", "ACESTEP_BENCH_REPEATS"
# Names of the cells that the benchmarks asv was asked for read, one a line.
SELECTED = "ACESTEP_BENCH_SELECTED"


class SettingError(ValueError):
    """A variable of the environment asks for what there is not."""


def repeats() -> int:
    """How often a cell is timed. Raises SettingError where ACESTEP_BENCH_REPEATS is no such number."""
    text = os.environ.get(REPEATS) or "3"
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise SettingError(f"{REPEATS}: {text[:60]!r} is not a whole number from 1 to 9999")
    return int(text)


def chosen() -> dict[str, list[str]]:
    """The values of each axis that ACESTEP_BENCH_CELLS names. Raises SettingError, one line with all AXES."""
    return _parsed(os.environ.get(FILTER, ""))


@cache
def _parsed(text: str) -> dict[str, list[str]]:
    axes: dict[str, list[str]] = {}
    for word in text.split():
        name, _, values = word.partition("=")
        known = [str(value) for value in AXES.get(name, ())]
        if not known:
            problem = f"{name[:60]!r} is not an axis"
        elif name in axes:
            problem = f"{name} is there twice"
        elif wrong := [value for value in values.split(",") if value not in known]:
            problem = f"{wrong[0][:60]!r} is not a value of {name}"
        else:
            axes[name] = values.split(",")
            continue
        every = " ".join(f"{name}={','.join(map(str, values))}" for name, values in AXES.items())
        raise SettingError(f"{FILTER}: {problem}; use some of {every}")
    return axes


def asked_for(name: str, value: object) -> bool:
    """Whether ACESTEP_BENCH_CELLS names a value of an axis."""
    return str(value) in chosen().get(name, ())


def left(name: str, values: tuple) -> tuple:
    """The values of one axis that ACESTEP_BENCH_CELLS leaves."""
    wanted = chosen()
    return tuple(value for value in values if name not in wanted or str(value) in wanted[name])


def of_subject(subject: str, axes: Mapping[str, tuple]) -> dict[str, tuple]:
    """What ACESTEP_BENCH_CELLS leaves of each axis of a subject, which it names SUBJECT.AXIS."""
    return {name: left(f"{subject}.{name}", values) for name, values in axes.items()}


def combinations(axes: Mapping[str, tuple]) -> list[dict[str, Any]]:
    """Every combination that the filter leaves, the last axis fastest."""
    every = itertools.product(*(left(name, values) for name, values in axes.items()))
    return [dict(zip(axes, values, strict=True)) for values in every]
