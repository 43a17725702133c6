"""What changed, as one record: what is printed, in any form, and what a page shows are made of it.

One cause is one line: series of a stage that moved the same way at commits that cannot be told apart are
one `Shift`. What moved where no code did is the machine's doing, and what only one measurement says is noise
until a second one agrees; both are told apart from what a commit did.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from scripts.changes import points
from scripts.changes.failures import Failure, failures
from scripts.changes.history import Commit, History, Machine, Series, Unread, code_differs

FORMAT, VERSION = "acestep-changes", 1
FLOORS = {"seconds": 0.002, "dB": 0.1, "log-log slope": 0.05}  # a smaller difference matters to nobody
KIND = ("stage", "component", "unit", "exact", "worse", "drift")  # what changes of one cause have in common


@dataclass(frozen=True, slots=True)
class Moved:
    """One series of a shift: levels before and after in `unit`, and their ratio with its 95 % interval. The
    ratio is None from zero, and of values that are compared by difference."""

    name: str
    before: float
    after: float
    ratio: float | None
    low: float | None
    high: float | None

    @property
    def step(self) -> float:
        """How far it moved: the logarithm of the ratio; where there is none, the difference."""
        return math.log(self.ratio) if self.ratio and self.ratio > 0 else self.after - self.before


@dataclass(frozen=True, slots=True)
class Shift:
    """Series of one stage and unit that moved together, the largest first.

    `commit` did it, or one of the `candidates` that cannot be told from it: they were not measured, or the
    noise hides where the level moved; all come after `base`, the last that was measured before. `by_code` is
    False where none of them changed what is measured. A `drift` went on from `since` to `commit`. `change` is
    the middle one's: 0.1 is a tenth more; None where values are compared by difference, which `difference`
    is, in `unit`.
    """

    stage: str
    component: str
    unit: str
    exact: bool
    worse: bool
    drift: bool
    by_code: bool
    since: Commit
    commit: Commit
    base: Commit
    candidates: int
    change: float | None
    low: float | None
    high: float | None
    series: tuple[Moved, ...]
    difference: float | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of a stage, of its middle series, and the least step that two commits are enough for."""

    stage: str
    component: str
    unit: str
    series: int
    width: float
    detectable: float


@dataclass(frozen=True, slots=True)
class Lone:
    """What the last commit alone says: so far it is noise."""

    stage: str
    component: str
    unit: str
    series: int
    change: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """Measurements of a commit that are left out, and why the first of them is."""

    commit: Commit
    series: int
    reason: str


@dataclass(frozen=True, slots=True)
class MachineReport:
    """All of one machine, the newest shifts first. `age_s`: since its last measurement, below zero of a clock
    that is ahead, None where no time is known; `behind`: commits that came after it."""

    name: str
    facts: dict[str, str]
    environment: str
    series: int
    commits: int
    last: Commit
    age_s: float | None
    behind: int
    shifts: tuple[Shift, ...]
    lone: tuple[Lone, ...]
    doubtful: tuple[Doubtful, ...]
    noise: tuple[Noise, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a branch did to everything that is measured, machine by machine: unlike ones are not compared.
    `elsewhere`: results of commits that are on other branches; `unread`: files that are no results;
    `outdated`: benchmarks with numbers of another version of them, which are compared with none."""

    head: Commit
    commits: int
    elsewhere: int
    unread: tuple[Unread, ...]
    machines: tuple[MachineReport, ...]
    format: str = FORMAT
    version: int = VERSION
    outdated: tuple[str, ...] = ()


def report(history: History, now_s: float | None = None) -> Report:
    """Find the changes of every machine."""
    now_s = time.time() if now_s is None else now_s
    machines = (_machine(history.commits, machine, now_s) for machine in history.machines)
    newest = sorted(
        machines,
        key=lambda one: (math.inf if one.age_s is None else one.age_s, one.name, one.environment),
    )
    head, commits = history.commits[-1], len(history.commits)
    return Report(
        head, commits, history.elsewhere, tuple(history.unread), tuple(newest),
        outdated=tuple(sorted(history.outdated)),
    )  # fmt: skip


def changes(series: Series) -> list[points.Change]:
    """Those of one series that matter."""
    if series.exact:
        return points.exact_changes(series.values, by_difference=series.by_difference)
    least = FLOORS.get(series.unit, 0.0)
    changes = points.noisy_changes(series.sound, by_difference=series.by_difference)
    return [one for one in changes if abs(one.after - one.before) >= least]


def _machine(commits: list[Commit], machine: Machine, now_s: float) -> MachineReport:
    places = sorted(machine.measured)
    shifts = list(_shifts(commits, machine.series))
    shifts.sort(
        key=lambda one: (-commits.index(one.commit), one.stage == "wall", -len(one.series), one.stage)
    )
    last, newest_ms = places[-1], max(machine.measured.values())
    ratios = [one for one in machine.series if not one.exact and not one.by_difference]
    return MachineReport(
        name=machine.facts.get("machine", ""),
        facts=machine.facts,
        environment=machine.environment,
        series=len(machine.series),
        commits=len(places),
        last=commits[last],
        age_s=now_s - newest_ms / 1e3 if newest_ms else None,
        behind=len(commits) - 1 - last,
        shifts=tuple(shifts),
        lone=tuple(_lone(ratios, last)),
        doubtful=tuple(_doubtful(commits, machine.series)),
        noise=tuple(_noise(ratios)),
        failures=tuple(failures(commits, machine)),
    )


def _grouped(series: Iterable[Series]) -> dict[tuple[str, str, str], list[Series]]:
    """Series by stage, component and unit."""
    groups: dict[tuple[str, str, str], list[Series]] = {}
    for one in series:
        groups.setdefault((one.stage, one.component, one.unit), []).append(one)
    return groups


def _shifts(commits: list[Commit], series: list[Series]) -> Iterator[Shift]:
    """Changes that one cause explains, of every stage and direction."""
    groups: dict[tuple, list[tuple[Series, points.Change]]] = {}
    for one in series:
        for change in changes(one):
            kind = one.stage, one.component, one.unit, one.exact, change.after > change.before, change.drift
            groups.setdefault((kind, one.by_difference), []).append((one, change))
    for (kind, _), alike in groups.items():
        for together in _together(alike):
            yield _shift(commits, together, dict(zip(KIND, kind, strict=True)))


def _together(changes: list[tuple[Series, points.Change]]) -> Iterator[list[tuple[Series, points.Change]]]:
    """Changes in groups that have a commit in common, at which each of them may be."""
    group: list[tuple[Series, points.Change]] = []
    for one in sorted(changes, key=lambda pair: (pair[1].earliest, pair[1].latest)):
        if group and one[1].earliest > min(change.latest for _, change in group):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def _shift(commits: list[Commit], together: list[tuple[Series, points.Change]], kind: dict) -> Shift:
    """One cause of changes that go together."""
    places = sorted({at for one, _ in together for at, value in enumerate(one.sound) if value == value})
    first = max(change.earliest for _, change in together)
    last = min(change.latest for _, change in together)
    drift = kind["drift"]
    possible = [at for at in places if first <= at <= last]
    ats = [change.at for _, change in together]
    likely = sorted(possible, key=lambda at: (-ats.count(at), at))
    culprits = [at for at in likely if _by_code(commits, places, at)]
    at = last if drift else (culprits or likely)[0]
    before = places[max(places.index(possible[0]) - 1, 0)]
    moved = [_moved(one, change) for one, change in together]
    moved.sort(key=lambda one: -abs(one.step))
    middle = moved[len(moved) // 2]
    change, low, high = (None if one is None else one - 1 for one in (middle.ratio, middle.low, middle.high))
    difference = middle.after - middle.before if together[0][0].by_difference else None
    return Shift(
        **kind, by_code=bool(culprits), since=commits[first], commit=commits[at], base=commits[before],
        candidates=possible[-1] - before, change=change, low=low, high=high, series=tuple(moved),
        difference=difference,
    )  # fmt: skip


def _by_code(commits: list[Commit], places: list[int], at: int) -> bool:
    """Whether what is measured differs between the commit `at` and the one before it of `places`."""
    index = places.index(at)
    return index > 0 and code_differs(commits[places[index - 1]].sha, commits[at].sha)


def _moved(series: Series, change: points.Change) -> Moved:
    if series.by_difference:
        return Moved(series.name, change.before, change.after, None, None, None)
    ratio, low, high = (
        value if math.isfinite(value) else None for value in (change.ratio, change.low, change.high)
    )
    return Moved(series.name, change.before, change.after, ratio, low, high)


def _lone(series: list[Series], last: int) -> Iterator[Lone]:
    """Stages of which the last commit is far from the level that its series have."""
    for (stage, component, unit), group in _grouped(series).items():
        ratios = [ratio for one in group if (ratio := points.lone_last(one.sound[: last + 1]))]
        if ratios:
            yield Lone(stage, component, unit, len(ratios), median(ratios) - 1)


def _doubtful(commits: list[Commit], series: list[Series]) -> Iterator[Doubtful]:
    reasons: dict[int, list[str]] = {}
    for one in series:
        for at, reason in one.doubts.items():
            reasons.setdefault(at, []).append(reason)
    for at in sorted(reasons, reverse=True):
        yield Doubtful(commits[at], len(reasons[at]), reasons[at][0])


def _noise(series: list[Series]) -> Iterator[Noise]:
    for (stage, component, unit), group in _grouped(series).items():
        widths = [width for one in group if (width := points.noise(one.sound)) == width]
        if widths:
            width = median(widths)
            yield Noise(stage, component, unit, len(widths), width, points.detectable(width))
