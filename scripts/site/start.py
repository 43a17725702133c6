"""Start: what changed lately, the exact first, then what was timed; how old the measurements are. Where there
is nothing to compare yet, where the time goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate

from scripts.changes.history import Commit, History
from scripts.changes.points import LEAST_POINTS
from scripts.changes.report import MachineReport
from scripts.changes.show import FEW, age, left_out, where
from scripts.gate.causes import percent
from scripts.site import failures, fits_verdicts, shifts, speed_numbers, start_chart
from scripts.site.commit import paged
from scripts.site.page import Page, Site, commit_page
from scripts.site.shifts import Changes, Line
from scripts.site.speed_measured import stages

WEEK = timedelta(days=7)
MOST_LONE, MOST_DOUBTFUL = 5, 3
FIRST = "These are the first measurements: what changed is told from the next measured commit on."


@dataclass(frozen=True, slots=True)
class Window(Changes):
    """What happened after a commit. `since`: when that is, in words; `answer`: what happened, in parts with
    their classes; `base`: the commit, None where the window has all. `compared`: whether anything was."""

    name: str
    since: str
    base: Commit | None
    commits: int
    measured: int
    compared: bool
    cards: list[Line]
    lines: list[Line]
    answer: list[tuple[str, str]]


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    machines = [(name, report) for name, _, report in shifts.machines(site)]
    week, release = last_week(site), last_release(site)
    before = None if week.exact or week.timed else latest(site)
    comparable = compared(site.history, 0)
    times = speed_numbers.measured(site.history, site.machines)
    yield site.page(
        "start.html", "index.html", "What changed", week=week, nothing=nothing,
        windows=list(filter(None, (week, before, release))) if comparable else [],
        chart=start_chart.chart(site) if comparable else stages(times),
        machines=[(name, site.apart(name), one, age(one.age_s)) for name, one in machines],
        lone=list(_lone(machines)), few=[name for name, one in machines if one.commits < LEAST_POINTS],
        too_few=FEW, judged=any(one.commits >= LEAST_POINTS for _, one in machines),
        noise=list(_noise(machines)), doubtful=list(_doubtful(machines)),
        left_out=list(left_out(site.report)),
        comparable=comparable,
        paged=paged(site, shifts.sightings(site)), page_of=commit_page, everyone=shifts.everyone(site),
    )  # fmt: skip


def nothing(window: Window) -> str:
    """The answer where nothing changed."""
    if not window.commits:
        return f"Nothing was committed {window.since}."
    if not window.measured:
        return f"Nothing was measured {window.since}."
    return f"Nothing changed {window.since}, beyond noise." if window.compared else FIRST


def last_week(site: Site) -> Window:
    """What happened within a week before the site was made."""
    since = datetime.fromtimestamp(site.now_s, UTC) - WEEK
    newest = accumulate((datetime.fromisoformat(one.date) for one in site.history.commits), max)
    first = sum(date <= since for date in newest)
    return window(site, "Since last week", f"since {since:%A}, {since.day} {since:%B}", first)


def last_release(site: Site) -> Window:
    """What happened since the newest tag; where there is none, since the first commit that was measured."""
    if site.history.releases:
        at = max(site.history.releases)
        name = site.history.releases[at]
        return window(site, f"Since the last release, {name}", f"since {name}", at + 1)
    first = min(at for machine in site.history.machines for at in machine.measured)
    name = "No release is tagged: since the first measurement"
    return window(site, name, "since the first measurement", first + 1)


def window(site: Site, name: str, since: str, first: int) -> Window:
    """What happened from the place `first` on."""
    commits = site.history.commits
    within = [one for one in shifts.sightings(site) if one.at >= first]
    recent = {one.sha for one in commits[first:]}
    failed = failures.lines(site, lambda one: one.stands and one.commit.sha in recent)
    cards, lines = fits_verdicts.lines(site.history, within), [*failed, *shifts.lines(within)]
    measured = {at for machine in site.history.machines for at in machine.measured if at >= first}
    return Window(
        name, since, commits[first - 1] if first else None, len(commits) - first, len(measured),
        compared(site.history, first), cards, lines, list(shifts.answer(cards, lines)),
    )  # fmt: skip


def compared(history: History, first: int) -> bool:
    """Whether any series that has a value from the place `first` on has one before that."""
    every = (one.values for machine in history.machines for one in machine.series)
    known = ([at for at, value in enumerate(values) if value == value] for values in every)
    return any(places and places[-1] >= first and places[0] < places[-1] for places in known)


def latest(site: Site) -> Window | None:
    """The last change there was, where nothing happened lately."""
    places = {commit.sha: at for at, commit in enumerate(site.history.commits)}
    failed = (one for _, _, report in shifts.machines(site) for one in report.failures if one.stands)
    ats = [*(one.at for one in shifts.sightings(site)), *(places[one.commit.sha] for one in failed)]
    return window(site, "The last change before that", "", max(ats)) if ats else None


def _lone(machines: list[tuple[str, MachineReport]]) -> Iterator[str]:
    """What one measurement says and no second one bears out."""
    for label, machine in machines:
        for one in machine.lone[:MOST_LONE]:
            yield f"{where(one)}: {percent(one.change)} in {one.series} series, on {label}"
        if (more := len(machine.lone) - MOST_LONE) > 0:
            yield f"and {more} more on {label}"


def _noise(machines: list[tuple[str, MachineReport]]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of a table: the machine, the stage, the width of its noise, the least step that would show."""
    for label, machine in machines:
        for one in machine.noise:
            unit = "" if one.unit == "seconds" else f", {one.unit}"
            yield label, f"{where(one)}{unit}", percent(one.width).lstrip("+"), percent(one.detectable)


def _doubtful(machines: list[tuple[str, MachineReport]]) -> Iterator[tuple[Commit, str]]:
    """Commits with measurements that were left out, and why."""
    for label, machine in machines:
        for one in machine.doubtful[:MOST_DOUBTFUL]:
            yield one.commit, f"{one.series} measurement{'s' * (one.series > 1)} on {label}: {one.reason}"
