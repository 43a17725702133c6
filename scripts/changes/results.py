"""A result file of asv's, read as data: one environment's measurements of one commit on one machine.

Results travel from machine to machine, so a file may hold anything. It is held against what asv writes, and
one that is something else is left out by whoever reads it, with the reason; the others lose nothing by it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import regular
from scripts.asv_conditions import CONDITIONS

FORMAT = 2  # of asv's result files
MAX_BYTES = 16 * 2**20
LEAST, MOST = 1e-12, 1e24  # of a number but zero, in whatever unit
MOST_CELLS = 10**5  # of a benchmark that failed as a whole, which says nothing of each
LAST_MS = 1e13  # since 1970; no clock is that late

FAILED, N_A = "failed", "n/a"

Column = dict[tuple[str, ...], float]  # a benchmark's numbers by its parameters, as they are written
Interval = tuple[float, float]
ENDS = "stats_ci_99_a", "stats_ci_99_b"  # of the 99 % interval that asv has of a median's samples


class NoResult(Exception):
    """A file is no result file of asv's; the text says why."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a file says. `started_ms`: when the last benchmark began, since 1970, 0 where no time is known;
    `intervals`: around those of the numbers that are medians of samples; `conditions`: whatever is said of
    each cell, by its name; `variables`: of the environment, by their names. `gaps`: why a benchmark has no
    number, FAILED or N_A, by parameters. `outdated`: benchmarks that were of another version then."""

    commit: str
    facts: dict[str, str]
    environment: str
    started_ms: int
    columns: dict[str, Column]
    gaps: dict[str, dict[tuple[str, ...], str]]
    intervals: dict[str, dict[tuple[str, ...], Interval]]
    conditions: dict[str, dict[str, Any]]
    variables: dict[str, str]
    outdated: frozenset[str] = frozenset()


def load(path: Path, versions: Mapping[str, str | None]) -> Result:
    """Read the benchmarks of `versions`, each of its version; of None any counts. Raises NoResult."""
    try:
        with regular(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise NoResult(f"it cannot be read: {error.strerror}") from None
    try:
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("version") != FORMAT:
        raise NoResult(f"it is no JSON object of asv's format {FORMAT}, of {MAX_BYTES >> 20} MiB at most")
    rows = _rows(content, versions)
    cells, variables = (
        field if isinstance(field, dict) else {} for field in map(content.get, (CONDITIONS, "env_vars"))
    )
    counted = {name: row for name, row in rows.items() if versions[name] in (None, row.get("version"))}
    cells_of = {name: _cells(name, row) for name, row in counted.items()}
    columns = {name: _column(name, values) for name, values in cells_of.items()}
    return Result(
        _typed(content, "commit_hash", str),
        {name: str(value) for name, value in _typed(content, "params", dict).items()},
        _typed(content, "env_name", str),
        max((_started(row) for row in rows.values()), default=0),
        columns,
        {name: _gaps(values) for name, values in cells_of.items()},
        {name: _intervals(row, columns[name]) for name, row in counted.items()},
        {name: known for name, known in cells.items() if isinstance(known, dict)},
        {name: str(value) for name, value in variables.items()},
        outdated=frozenset(rows.keys() - counted.keys()),
    )


def _typed(content: dict, name: str, kind: type) -> Any:
    """A field that has to be there."""
    if not isinstance(content.get(name), kind):
        raise NoResult(f"its field {name!r} is missing, or of another type")
    return content[name]


def _rows(content: dict, versions: Container[str]) -> dict[str, dict]:
    """What is said of each benchmark, by what asv calls it; of all that it left out at the end, nothing."""
    names = _typed(content, "result_columns", list)
    rows = _typed(content, "results", dict)
    if names[:2] != ["result", "params"] or not all(isinstance(row, list) for row in rows.values()):
        raise NoResult("its rows are not those that asv writes")
    return {
        name: dict(zip(map(str, names), row, strict=False)) for name, row in rows.items() if name in versions
    }


def _started(row: dict) -> int:
    value = row.get("started_at")
    return int(value) if isinstance(value, (int, float)) and 0 <= value <= LAST_MS else 0


def _cells(name: str, row: dict) -> dict[tuple[str, ...], Any]:
    """What stands for each combination of a benchmark's parameters; of one that failed as a whole, None."""
    values, axes = row.get("result"), row.get("params")
    axes = axes if isinstance(axes, list) and all(map(_is_axis, axes)) else None
    if values is None:
        return dict.fromkeys(itertools.islice(itertools.product(*axes or ()), MOST_CELLS))
    if axes is None or not isinstance(values, list):
        raise NoResult(f"{name} has no values by parameters")
    try:
        return dict(zip(itertools.product(*axes), values, strict=True))
    except ValueError:
        raise NoResult(f"{name} has not a value for each of its parameters") from None


def _column(name: str, cells: Mapping[tuple[str, ...], Any]) -> Column:
    """The numbers of a benchmark."""
    return {
        cell: _number(name, value) for cell, value in cells.items() if value is not None and value == value
    }


def _gaps(cells: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], str]:
    """Why there is no number: asv has none of what failed, and `nan` of what does not apply."""
    return {
        cell: FAILED if value is None else N_A
        for cell, value in cells.items()
        if value is None or value != value
    }


def _intervals(row: dict, column: Column) -> dict[tuple[str, ...], Interval]:
    """Of a benchmark's numbers; of none that has no such interval, or one that is not around it."""
    ends = [row.get(name) for name in ENDS]
    if not column or not all(isinstance(values, list) for values in ends):
        return {}
    cells = itertools.product(*row["params"])
    known = {cell: pair for cell, *pair in zip(cells, *ends, strict=False) if all(map(_is_finite, pair))}
    return {
        cell: (max(known[cell][0], 0.0), known[cell][1])  # of few samples an interval begins below zero
        for cell, value in column.items()
        if cell in known and known[cell][0] <= value <= known[cell][1]
    }


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MOST


def _is_axis(axis: Any) -> bool:
    return isinstance(axis, list) and all(isinstance(value, str) for value in axis)


def _number(name: str, value: Any) -> float:
    if type(value) in (int, float) and (value == 0 or LEAST <= abs(value) <= MOST):
        return float(value)
    raise NoResult(f"{name} has a value that is no measurement")


def is_amount(value: Any) -> bool:
    """Whether a value from a file is a number, or a flag, that something can be made of."""
    return isinstance(value, (int, float)) and 0 <= value <= MOST
