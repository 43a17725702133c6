"""Commit: what one commit did to each stage, and to what fits which card; and the list of all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from harness import cards
from scripts.changes.history import Commit, Machine, Series
from scripts.changes.report import MachineReport, Shift
from scripts.changes.show import verdict
from scripts.site import commit_stages, failures, fits_verdicts, shifts
from scripts.site.commit_stages import Kind, Stage
from scripts.site.page import SHORT, Page, Site, commit_page
from scripts.site.shifts import Changes, Line, Sighting

MOST_FAILURES, MOST_WORDS = 10, 3
ELSEWHERE = "not its doing"
UNCHANGED = "Nothing that runs changed"


@dataclass(frozen=True, slots=True)
class Measured:
    """A commit on a machine. `base`: the last one that was measured there before it, None of the first."""

    machine: str
    when: str
    base: Commit | None
    compare: str  # the page that has every number of both
    load: str
    stages: list[Stage]
    failures: list[tuple[str, bool]]
    doubts: list[tuple[str, int]]

    @property
    def moved(self) -> list[Stage]:
        return [one for one in self.stages if one.tone != "noise"]

    @property
    def same(self) -> list[Stage]:
        return [one for one in self.stages if one.tone == "noise" and one.verdict != commit_stages.SAME]

    @property
    def unchanged(self) -> int:
        """Stages without noise that are the same."""
        return sum(one.verdict == commit_stages.SAME for one in self.stages)

    @property
    def summary(self) -> str:
        """How many stages did what."""
        same = len(self.same)
        noun = "stage" if same == 1 else "stages"
        return f"{same} {noun} within noise, {self.unchanged} the same to the digit"


@dataclass(frozen=True, slots=True)
class Story(Changes):
    """What a commit did. `cards` and `lines`: changes that it may have made, as the report has them;
    `beside`: what was first seen there and is another's doing, or the machine's."""

    commit: Commit
    cards: list[Line]
    lines: list[Line]
    beside: list[Line]
    measured: bool
    first: bool  # of all that were measured, there is none before it
    sightings: list[Sighting]

    @property
    def others(self) -> tuple[list[Line], list[Line]]:
        """What is beside, the exact and the timed."""
        exact = [line for line in self.beside if line.exact]
        return exact, [line for line in self.beside if not line.exact]

    @property
    def did(self) -> list[Line]:
        return [*self.exact, *self.timed]

    @property
    def shared(self) -> bool:
        """Whether another commit may have done some of it."""
        return any(event.commits[1:] for line in self.did for event in line.events)

    @property
    def short(self) -> str:
        """The same as a word of a list."""
        return self.nothing if self.commit.code else f"{UNCHANGED}."

    @property
    def nothing(self) -> str:
        """What there is to say where it did nothing."""
        if not self.commit.code:
            return f"{UNCHANGED}: what differs is noise, or the machine's doing."
        if self.first:
            return "The first that was measured."
        return "Nothing changed beyond noise." if self.measured else "Not measured."


def pages(site: Site) -> Iterator[Page]:
    """The list, and a page for each commit that was measured, or may have done what was measured later."""
    stories, kept = _stories(site), [_Kept.of(*one) for one in shifts.machines(site)]
    yield site.page(
        "commits.html", "commit.html", "Commits", rows=list(_rows(site, stories)), most=MOST_WORDS,
        paged=frozenset(stories), page_of=commit_page, everyone=shifts.everyone(site),
    )  # fmt: skip
    order = [None, *stories.values(), None]
    for before, story, after in zip(order, order[1:], order[2:], strict=False):
        if story:
            yield _page(site, story, kept, (before, after), frozenset(stories))


def paged(site: Site, sightings: list[Sighting]) -> frozenset[str]:
    """The commits that have a page: those that were measured, and those that a shift may be of."""
    measured = {site.history.commits[at].sha for machine in site.history.machines for at in machine.measured}
    return frozenset(measured | {commit.sha for one in sightings for commit in one.suspects})


def _rows(site: Site, stories: dict[str, Story]) -> Iterator[tuple[Story | None, int]]:
    """Those that have a page, the newest first, with how many have none before the next one."""
    gap = 0
    for commit in reversed(site.history.commits):
        if commit.sha in stories:
            yield from [(None, gap)] if gap else []
            yield stories[commit.sha], 0
        gap = 0 if commit.sha in stories else gap + 1
    yield from [(None, gap)] if gap else []


@dataclass(frozen=True)
class _Kept:
    """A machine with what every commit's page needs of it."""

    name: str
    machine: Machine
    report: MachineReport
    grouped: dict[Kind, list[Series]]
    noise: dict[tuple[str, str, str], float]
    places: list[int]

    @staticmethod
    def of(name: str, machine: Machine, report: MachineReport) -> _Kept:
        return _Kept(
            name, machine, report, commit_stages.grouped(machine), commit_stages.widths(report),
            sorted(machine.measured),
        )  # fmt: skip

    def before(self, at: int) -> int | None:
        """Where it measured last before a place."""
        earlier = [place for place in self.places if place < at]
        return earlier[-1] if earlier else None


def _stories(site: Site) -> dict[str, Story]:
    """What each commit that has a page did, by its hash, oldest first."""
    sightings = shifts.sightings(site)
    has_page = paged(site, sightings)
    own: dict[str, list[Sighting]] = {}
    for one in sightings:
        for commit in {one.shift.commit, *one.suspects}:
            own.setdefault(commit.sha, []).append(one)
    return {
        commit.sha: _story(site, at, own.get(commit.sha, []))
        for at, commit in enumerate(site.history.commits)
        if commit.sha in has_page
    }


def _story(site: Site, at: int, sightings: list[Sighting]) -> Story:
    history, commit = site.history, site.history.commits[at]
    by_it = [one for one in sightings if commit in one.suspects]
    others = [one for one in sightings if commit not in one.suspects]
    beside = [*fits_verdicts.lines(history, others), *shifts.lines(others)]
    measured = [one for one in history.machines if at in one.measured]
    first = bool(measured) and all(at <= min(one.measured) for one in history.machines)
    failed = failures.lines(site, lambda one: commit in one.suspects)
    return Story(
        commit,
        fits_verdicts.lines(history, by_it),
        [*failed, *shifts.lines(by_it)],
        beside,
        bool(measured),
        first,
        sightings,
    )


def _page(
    site: Site, story: Story, kept: list[_Kept], neighbours: tuple[Story | None, Story | None],
    has_page: frozenset[str],
) -> Page:  # fmt: skip
    """The page of one commit."""
    commit = story.commit
    at = site.history.commits.index(commit)
    runs = [one for one in kept if at in one.places]
    did = {
        one.machine for one in story.sightings if commit in one.suspects and one.shift.unit in shifts.CARDS
    }
    table = fits_verdicts.rows((one.name, one.machine, one.before(at), at, one.name in did) for one in runs)
    sizes = sorted({size for row in table for size in row.cells}, key=float)
    return site.page(
        "commit.html", commit_page(commit.sha), commit.subject or commit.sha[:SHORT], commit=commit,
        story=story, answer=list(shifts.answer(story.cards, story.lines)), neighbours=neighbours,
        runs=[_measured(site, story, one, at) for one in runs], most=MOST_FAILURES, table=table,
        cards_moved=any(cell.tone != "noise" for row in table for cell in row.cells.values()),
        sizes=[(size, cards.example(float(size))) for size in sizes], paged=has_page, page_of=commit_page,
        everyone=shifts.everyone(site),
    )  # fmt: skip


def _measured(site: Site, story: Story, kept: _Kept, at: int) -> Measured:
    """What a machine has of a commit. Of one that changes nothing that runs, no stage is worse or better."""
    base, commits = kept.before(at), site.history.commits
    here = [one for one in story.sightings if (one.machine, one.shift.commit) == (kept.name, story.commit)]
    verdicts = {
        _kind(one.shift): verdict(one.shift) if story.commit in one.suspects else ELSEWHERE for one in here
    }
    rows = [] if base is None else commit_stages.compared(kept.grouped, kept.noise, verdicts, base, at)
    measured_ms = kept.machine.measured[at]
    when = f"{datetime.fromtimestamp(measured_ms / 1e3, UTC):%Y-%m-%d %H:%M} UTC"
    return Measured(
        kept.name, when if measured_ms else "at no known time",
        None if base is None else commits[base],
        "" if base is None else _compare(kept.name, commits[base], story.commit),
        commit_stages.load(kept.machine.conditions.get(at, {}).values()), rows,
        commit_stages.failures(kept.machine, base, at), commit_stages.doubts(kept.machine, at),
    )  # fmt: skip


def _compare(machine: str, base: Commit, commit: Commit) -> str:
    sides = {"a": f"{machine}@{base.sha[:SHORT]}", "b": f"{machine}@{commit.sha[:SHORT]}"}
    return f"compare.html#{urlencode(sides)}"


def _kind(shift: Shift) -> Kind:
    return shift.stage, shift.component, shift.unit, shift.exact
