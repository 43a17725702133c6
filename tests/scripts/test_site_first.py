"""The site of few measurements: nothing is compared, and nobody says that anything is noise."""

import math
from dataclasses import replace
from itertools import islice

import planted
import pytest
from planted import COMMITS, SLOWER
from site_reader import Page, first_of, measured_at

from scripts.changes import points
from scripts.site import commit, start, start_chart
from scripts.site.page import Site, commit_page

QUIET = SLOWER - 1


def test_of_one_commit_nothing_is_compared(site, few):
    """The control: of two it is."""
    one, two = measured_at(site, few, QUIET), measured_at(site, few, QUIET - 1, QUIET)
    page = Page(next(start.pages(one)).content)
    assert page.shown("answer") == start.FIRST
    assert "beyond noise" not in page.shown() and "from noise" not in page.shown()
    assert "Since last week" not in page.shown() and "#song" not in page.links
    first = Page(next(islice(commit.pages(one), 1, None)).content)
    assert "At this commit" in first.shown() and "As before" not in first.shown()
    assert ("nav", "aria-label", "class") not in first.elements  # to commits beside it
    control = Page(next(start.pages(two)).content)
    assert "from noise" in control.shown() and control.shown("answer") != start.FIRST
    assert "Since last week" in control.shown() and "#song" in control.links


def test_the_first_measurements_are_told_by_their_stages(site):
    page = Page(next(start.pages(measured_at(site, site.history, QUIET))).content)
    assert page.shown("answer") == start.FIRST
    assert "Measured: stages of one song" in page.shown() and "A song of 5 s" not in page.shown()


def test_of_two_commits_that_measured_different_series_nothing_is_compared(site, few):
    """The control: of one series that both measured it is."""
    both = measured_at(site, few, QUIET - 1, QUIET)
    (machine,) = both.history.machines
    last, *others = machine.series
    only_last = replace(last, values=[math.nan if at < QUIET else one for at, one in enumerate(last.values)])
    only_first = [
        replace(one, values=[*one.values[:QUIET], *[math.nan] * (COMMITS - QUIET)]) for one in others
    ]
    for first, compared in ((only_last, False), (last, True)):
        history = replace(both.history, machines=[replace(machine, series=[first, *only_first])])
        page = Page(next(start.pages(Site(history, both.now_s))).content)
        assert (page.shown("answer") != start.FIRST) == compared


def test_a_song_of_which_every_measurement_is_in_doubt_did_not_fail(site, few):
    machine = measured_at(site, few, QUIET).history.machines[0]
    busy = [replace(one, doubts={QUIET: "it was hot"}) for one in machine.series]
    failed = [replace(one, values=[math.nan] * COMMITS, gaps={QUIET: "failed"}) for one in machine.series]
    charts = []
    for series in (busy, failed):
        history = replace(few, machines=[replace(machine, series=series)])
        charts.append(start_chart.chart(Site(history, site.now_s)))
    assert "has no measurement without doubt (it was hot)" in charts[0].story
    assert [(row["time"], row["kind"]) for row in charts[0].rows] == [(0.0, "doubtful")]
    assert "failed throughout" in charts[1].story and charts[1].rows[0]["time"] is None


def test_one_measurement_is_a_point_and_says_so(site, few):
    one = Site(first_of(few, 1), site.now_s)
    pages = {page.name: page.content for make in (start.pages, commit.pages) for page in make(one)}
    assert len(pages) == 3
    rows = start_chart.chart(one).rows
    assert [(row["machine"], row["time"]) for row in rows] == [(name, 0.0) for name in planted.MACHINES]
    shown = Page(pages[commit_page(few.commits[0].sha)])
    assert shown.shown("answer") == "The first that was measured."
    assert "The first that was measured here." in shown.shown()


@pytest.mark.parametrize(("commits", "told"), [(2, True), (points.LEAST_POINTS, False)])
def test_of_few_commits_nobody_says_that_it_is_noise(site, few, commits, told):
    shown = Page(next(start.pages(Site(first_of(few, 3 * commits), site.now_s))).content).shown("noise")
    short = Page(next(start.pages(Site(first_of(few, commits), site.now_s))).content).shown("noise")
    assert ("Not so yet: amd-epyc-2-cores" in short, "Not so yet: amd-epyc-2-cores" in shown) == (told, False)
    assert ("No measurement of the last commit" in short) != told
