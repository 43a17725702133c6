"""Benchmarks that ran and fail, in lines as other changes have them."""

from __future__ import annotations

from collections.abc import Callable

from scripts.changes.failures import Failure
from scripts.site.page import Site
from scripts.site.shifts import FAILS, Amount, Event, Line, machines


def lines(site: Site, wanted: Callable[[Failure], bool]) -> list[Line]:
    """A line for each benchmark of the failures that are `wanted`."""
    groups: dict[tuple[str, bool], list[tuple[str, Failure]]] = {}
    for machine, _, report in machines(site):
        for one in filter(wanted, report.failures):
            groups.setdefault((one.benchmark, bool(one.suspects)), []).append((machine, one))
    return [_line(benchmark, by_code, group) for (benchmark, by_code), group in groups.items()]


def _line(benchmark: str, by_code: bool, group: list[tuple[str, Failure]]) -> Line:
    names: dict[str, set[str]] = {}
    for machine, one in group:
        names.setdefault(machine, set()).update(one.series)
    texts: dict[str, list[str]] = {}
    for machine, series in names.items():
        texts.setdefault(f"{len(series)} series", []).append(machine)
    return Line(
        FAILS if by_code else "machine", benchmark, benchmark, "", True, None,
        tuple(Amount(text, tuple(of)) for text, of in texts.items()),
        tuple(dict.fromkeys(Event(True, one.suspects or (one.commit,)) for _, one in group)),
        max(map(len, names.values())),
    )  # fmt: skip
