"""What asv measured of every commit of a branch: a row of numbers a series, on each machine by itself."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from asv.results import Results, iter_results_paths
from asv.util import UserError

from harness.errors import MissingPrerequisite, UsageError
from scripts.asv_conditions import conditions
from scripts.gate.suites import EXACT, Reading, every

RESULTS = Path(".asv/results")
MEASURED_CODE = ("harness", "acestep", "subjects", "tiersim", "benchmarks")  # all that a measurement runs
UNTOLD = "_rate|Parity"  # of each rate the inverse is told; parity has limits of its own
WITHOUT_NOISE = f"{EXACT}|TierBoundary|track_status"
OTHERS = 0.1  # share of the cores; with more kept busy by others a time is doubtful
QUOTA_WAITS_S = 0.1


@dataclass(frozen=True, slots=True)
class Commit:
    """One of the branch's own (first parents)."""

    sha: str
    date: str  # the author's, ISO 8601
    subject: str


@dataclass(frozen=True, slots=True)
class Series:
    """One number over all commits, oldest first: `nan` where it was not measured, or does not apply.

    `doubts` says of a commit why its value is not to be relied on.
    """

    name: str
    stage: str
    component: str
    unit: str
    exact: bool
    values: list[float]
    doubts: dict[int, str] = field(default_factory=dict)

    @property
    def sound(self) -> list[float]:
        """The values that are beyond doubt."""
        return [math.nan if at in self.doubts else value for at, value in enumerate(self.values)]


@dataclass(slots=True)
class Machine:
    """One machine with one environment: what differs in any of these `facts` is never compared."""

    facts: dict[str, str]
    environment: str
    measured: dict[int, int] = field(default_factory=dict)  # when each commit was, in ms since 1970
    series: list[Series] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class History:
    """A branch and what was measured of it. `elsewhere`: results of commits that are not on it."""

    commits: list[Commit]
    machines: list[Machine]
    elsewhere: int


def read(results: Path = RESULTS) -> History:
    """Read all results of the commits that HEAD has come from; MissingPrerequisite where there are none."""
    commits = branch()
    places = {commit.sha: at for at, commit in enumerate(commits)}
    files: dict[tuple, list[tuple[int, Results, Mapping[str, dict]]]] = {}
    elsewhere = 0
    for folder, name, _ in iter_results_paths(str(results)):
        result = _result(Path(folder, name))
        if result.commit_hash not in places:
            elsewhere += 1
            continue
        key = (*sorted((key, str(value)) for key, value in result.params.items()), result.env_name)
        row = places[result.commit_hash], result, conditions(Path(folder, name))
        files.setdefault(key, []).append(row)
    if not files:
        raise MissingPrerequisite(f"{results}: no commit of this branch was measured; run make bench")
    readings = [one for one in every() if not re.search(UNTOLD, one.benchmark)]
    machines = [
        _machine(dict(key[:-1]), key[-1], rows, readings, len(commits)) for key, rows in files.items()
    ]
    return History(commits, machines, elsewhere)


def branch() -> list[Commit]:
    """The commits of HEAD's branch, oldest first; those of merged branches are not its own."""
    text = git("log", "--first-parent", "--reverse", "-z", "--format=%H%x1f%aI%x1f%s", "HEAD")
    return [Commit(*line.split("\x1f", 2)) for line in text.split("\0") if line]


@cache
def code_differs(before: str, after: str) -> bool:
    """Whether anything that a measurement runs differs between two commits."""
    return bool(git("diff", "--name-only", before, after, "--", *MEASURED_CODE))


def git(*arguments: str) -> str:
    """What git answers. Raises MissingPrerequisite."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise MissingPrerequisite(f"git: cannot be run: {error.strerror}; install it") from None
    if done.returncode:
        raise MissingPrerequisite("git: run it in the root of the repository, where its commits are")
    return done.stdout.strip()


def doubt(conditions: Mapping[str, Any]) -> str | None:
    """Why a time that was taken under `conditions` is not to be relied on; None where nothing speaks against
    it, or nothing is known."""
    known = {name: value for name, value in conditions.items() if isinstance(value, (int, float))}
    others, cores = known.get("other_cores", 0.0), known.get("cores", math.inf)
    if others > OTHERS * cores:
        return f"other work kept {others:.1f} of {cores} cores busy"
    if known.get("throttle_events", 0) > 0:
        return "the processor was too hot and slowed down"
    if known.get("quota_waits_s", 0.0) > QUOTA_WAITS_S:
        return "the container's quota of processor time was used up"
    if known.get("gpu_slowed"):
        return "the card was held below its clock"
    return None


def _result(path: Path) -> Results:
    try:
        return Results.load(str(path))
    except (UserError, OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{str(path)!r} is no result file of asv's: {error}; delete it") from None


def _machine(
    facts: dict[str, str],
    environment: str,
    rows: list[tuple[int, Results, Mapping[str, dict]]],
    readings: list[Reading],
    commits: int,
) -> Machine:
    """One machine's results as series; what was never measured there is left out."""
    machine = Machine(facts, environment)
    machine.measured = {
        at: max(filter(None, result.started_at.values()), default=0) for at, result, _ in rows
    }
    for (benchmark, version), group in itertools.groupby(
        readings, lambda one: (one.benchmark, getattr(one.suite, "version", None))
    ):
        columns = [(at, _column(result, benchmark, version), cells) for at, result, cells in rows]
        exact = re.search(WITHOUT_NOISE, benchmark) is not None
        for one in group:
            params = tuple(map(repr, one.params))
            known = {at: column.get(params) for at, column, _ in columns}
            known = {at: float(value) for at, value in known.items() if value is not None and value == value}
            if known:
                doubts = {} if exact else _doubts(one.cell.name, columns, known)
                values = [known.get(at, math.nan) for at in range(commits)]
                series = Series(one.name, one.stage, one.component, one.unit, exact, values, doubts)
                machine.series.append(series)
    return machine


def _doubts(cell: str, columns: Iterable[tuple[int, dict, Mapping]], known: Container[int]) -> dict[int, str]:
    """Why values of a cell are doubtful, by their commits."""
    reasons = {at: doubt(cells.get(cell, {})) for at, _, cells in columns if at in known}
    return {at: reason for at, reason in reasons.items() if reason}


def _column(result: Results, benchmark: str, version: str | None) -> dict[tuple[str, ...], float | None]:
    """Values of a benchmark by its parameters, as they are written; none of another version of it."""
    measured = result.benchmark_version.get(benchmark)
    if measured is None or version not in (None, measured):
        return {}
    params = result.get_result_params(benchmark)
    values = result.get_result_value(benchmark, params)
    return dict(zip(itertools.product(*params), values, strict=True))
