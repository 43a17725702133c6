"""What asv measured of every commit of a branch: a row of numbers a series, on each machine by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import MissingPrerequisite
from harness.text import counted
from scripts.changes.results import Interval, NoResult, Result, is_amount, load
from scripts.changes.units import by_difference
from scripts.gate.suites import EXACT, Reading, every
from scripts.git import git

RESULTS = Path(".asv/results")
MEASURED_CODE = ("harness", "acestep", "subjects", "tiersim", "benchmarks")  # all that a measurement runs
UNTOLD = "_rate|Parity"  # of each rate the inverse is told; parity has limits of its own
WITHOUT_NOISE = f"{EXACT}|TierBoundary|track_status"
OTHERS = 0.1  # share of the cores; with more kept busy by others a time is doubtful
QUOTA_WAITS_S = 0.1
NOT_MEASURED = "not measured"
FIELDS = "%H", "%aI", "%s", "%an", "%P"  # of a commit, as git writes them


@dataclass(frozen=True, slots=True)
class Commit:
    """One of the branch's own (first parents). `code`: whether it changes what a measurement runs."""

    sha: str
    date: str  # the author's, ISO 8601
    subject: str
    author: str = ""
    parents: tuple[str, ...] = ()
    code: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """One number over all commits, oldest first: `nan` where it was not measured, or does not apply.

    `doubts` says of a commit why its value is not to be relied on; `intervals` has the 99 % interval of a
    value that is the median of samples. `params` are those of its `benchmark`. `gaps` says why a commit that
    was measured has no value: it failed, is n/a, or was not measured.
    """

    name: str
    stage: str
    component: str
    unit: str
    exact: bool
    values: list[float]
    doubts: dict[int, str] = field(default_factory=dict)
    intervals: dict[int, Interval] = field(default_factory=dict)
    benchmark: str = ""
    params: dict[str, str] = field(default_factory=dict)
    gaps: dict[int, str] = field(default_factory=dict)

    @property
    def by_difference(self) -> bool:
        """Whether its values are compared by their difference, not their ratio."""
        return by_difference(self.unit, self.benchmark)

    @property
    def sound(self) -> list[float]:
        """The values that are beyond doubt."""
        return [math.nan if at in self.doubts else value for at, value in enumerate(self.values)]


@dataclass(slots=True)
class Machine:
    """One machine with one environment: what differs in any of these `facts` is never compared.

    `measured`: when each commit was, in ms since 1970; `conditions`: of each commit, by cell.
    """

    facts: dict[str, str]
    environment: str
    measured: dict[int, int] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    conditions: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)  # of the environment


@dataclass(frozen=True, slots=True)
class Unread:
    """A file among the results that is none of asv's, and why it is not."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class History:
    """A branch and what was measured of it. `elsewhere`: results of commits that are not on it; `unread`:
    files that were left out; `releases`: names of tags, by the place of their commit; `outdated`: benchmarks
    with numbers of another version of them, which are left out."""

    commits: list[Commit]
    machines: list[Machine]
    elsewhere: int
    unread: list[Unread]
    releases: dict[int, str] = field(default_factory=dict)
    outdated: frozenset[str] = frozenset()


def read(folder: Path = RESULTS) -> History:
    """Read all results of the commits that HEAD has come from; MissingPrerequisite where there are none."""
    commits = branch()
    places = {commit.sha: at for at, commit in enumerate(commits)}
    readings = [one for one in every() if not re.search(UNTOLD, one.benchmark)]
    versions = {one.benchmark: getattr(one.suite, "version", None) for one in readings}
    results, unread = _loaded(folder, versions)
    ours = [result for result in results if result.commit in places]
    outdated = frozenset().union(*(result.outdated for result in ours))
    elsewhere = len(results) - len(ours)
    groups: dict[tuple, dict[int, Result]] = {}
    for result in ours:
        if result.columns:
            key = *sorted(result.facts.items()), result.environment
            groups.setdefault(key, {})[places[result.commit]] = result
    if not groups:
        left_out = "".join(_left_out(elsewhere, unread, outdated))
        raise MissingPrerequisite(
            f"{folder}: no commit of this branch was measured; {left_out}run make bench"
        )
    machines = [_machine(measured, readings, len(commits)) for measured in groups.values()]
    return History(commits, machines, elsewhere, unread, _releases(places), outdated)


def _left_out(elsewhere: int, unread: list[Unread], outdated: frozenset[str]) -> Iterator[str]:
    """What there is in place of results, for who finds none."""
    if elsewhere:
        yield f"{counted(elsewhere, 'result')} of commits that are not on it; "
    if outdated:
        yield f"numbers of another version of {counted(len(outdated), 'benchmark')}; "
    if unread:
        yield f"{counted(len(unread), 'file')} that are no results: {unread[0].file}: {unread[0].reason}; "


def branch() -> list[Commit]:
    """The commits of HEAD's branch, oldest first; those of merged branches are not its own."""
    own = "log", "--first-parent", "--reverse", "-z"
    fields = git(*own, f"--format={'%x00'.join(FIELDS)}", "HEAD").split("\0")
    code = set(git(*own, "--format=%H", "HEAD", "--", *MEASURED_CODE).split("\0"))
    return [
        Commit(sha, date, subject, author, tuple(parents.split()), sha in code)
        for sha, date, subject, author, parents in zip(*[iter(fields)] * len(FIELDS), strict=False)
    ]


def _releases(places: Mapping[str, int]) -> dict[int, str]:
    """Tags of the branch's own commits; of several at one commit the last by name."""
    form = "--format=%(*objectname) %(objectname) %(refname:short)"  # the first is empty, unless annotated
    tags = [line.split() for line in git("for-each-ref", "--merged=HEAD", form, "refs/tags").splitlines()]
    return {places[sha]: name for sha, *_, name in tags if sha in places}


@cache
def code_differs(before: str, after: str) -> bool:
    """Whether anything that a measurement runs differs between two commits."""
    return bool(git("diff", "--name-only", before, after, "--", *MEASURED_CODE))


def doubt(conditions: Mapping[str, Any]) -> str | None:
    """Why a time that was taken under `conditions` is not to be relied on; None where nothing speaks against
    it, or nothing is known."""
    known = {name: value for name, value in conditions.items() if is_amount(value)}
    others, cores = known.get("other_cores", 0), known.get("cores", math.inf)
    if others > OTHERS * cores:
        return f"other work kept {others:.1f} of {cores} cores busy"
    if known.get("throttle_events", 0) > 0:
        return "the processor was too hot and slowed down"
    if known.get("quota_waits_s", 0) > QUOTA_WAITS_S:
        return "the container's quota of processor time was used up"
    if known.get("gpu_slowed"):
        return "the card was held below its clock"
    return None


def _loaded(folder: Path, versions: Mapping[str, str | None]) -> tuple[list[Result], list[Unread]]:
    """Every result below `folder`, in the order of their names, and what is none."""
    results, unread = [], []
    for path in sorted(folder.glob("*/*.json")):
        if path.name == "machine.json":
            continue
        try:
            results.append(load(path, versions))
        except NoResult as error:
            unread.append(Unread(str(path.relative_to(folder)), str(error)))
    return results, unread


def _machine(measured: dict[int, Result], readings: list[Reading], commits: int) -> Machine:
    """One machine's results, by their commits, as series; what was never measured there is left out."""
    any_result = next(iter(measured.values()))
    machine = Machine(any_result.facts, any_result.environment, variables=any_result.variables)
    machine.measured = {at: result.started_ms for at, result in measured.items()}
    machine.conditions = {at: result.conditions for at, result in measured.items()}
    for one in readings:
        params, exact = tuple(map(repr, one.params)), re.search(WITHOUT_NOISE, one.benchmark) is not None
        columns = {at: result.columns.get(one.benchmark, {}) for at, result in measured.items()}
        known = {at: column[params] for at, column in columns.items() if params in column}
        if known:
            reasons = (
                {} if exact else {at: doubt(measured[at].conditions.get(one.cell.name, {})) for at in known}
            )
            doubts = {at: reason for at, reason in reasons.items() if reason}
            values = [known.get(at, math.nan) for at in range(commits)]
            spans = {at: measured[at].intervals[one.benchmark].get(params) for at in known}
            intervals = {at: span for at, span in spans.items() if span}
            unknown = {at: measured[at].gaps.get(one.benchmark, {}) for at in sorted(measured.keys() - known)}
            gaps = {at: why.get(params, NOT_MEASURED) for at, why in unknown.items()}
            machine.series.append(
                Series(
                    one.name, one.stage, one.component, one.unit, exact, values, doubts, intervals,
                    one.benchmark, dict(one.named), gaps,
                )
            )  # fmt: skip
    return machine
