"""Pages of a planted history: Start, the list of commits and each commit say what was planted, no more."""

import json
import re
from dataclasses import replace
from itertools import islice

import planted
import pytest
from planted import COMMITS, DOCS, FAILED, GROWN, LOADED, REVERT, SLOWER
from site_reader import Page, failing, first_of

from scripts.site import commit, shifts, start, start_chart
from scripts.site.page import NAVIGATION, Site, commit_page

HOSTILE = '</script><img src=x onerror=alert(1)>{{ site }} " onmouseover=" \x1b[2J\u202egnp.exe'
QUIET = SLOWER - 1


@pytest.fixture(scope="module")
def contents(site):
    return {page.name: page.content for pages in (start.pages, commit.pages) for page in pages(site)}


@pytest.fixture
def page(site, contents):
    """A commit's page by its place, or any by its name."""

    def get(name):
        return Page(contents[name if isinstance(name, str) else commit_page(site.history.commits[name].sha)])

    return get


def test_the_first_line_is_the_answer(page):
    assert page("index.html").shown("answer") == (
        "▲ 8 GB (RTX 4060) no longer fits turbo with LM, and 1 more; ▲ peak memory grew (+9.1 %);"
        " ▼ diffuse is faster (-20 %); ▼ memory traffic of diffuse fell (-5.7 %)"
        " since Wednesday, 7 October."
    )


def test_a_slowdown_and_its_revert_are_as_before(site, page):
    """Of the machine that measured both; the other one has no second measurement of the revert yet."""
    lines = start.last_release(site).timed
    diffuse = {line.verdict: line for line in lines if line.stage == "diffuse"}
    assert {line.amounts[0].machines for line in diffuse.values()} == {(one,) for one in planted.MACHINES}
    back = diffuse[shifts.BACK]
    assert [event.commits for event in back.events] == [
        (site.history.commits[at],) for at in (SLOWER, REVERT)
    ]
    assert (back.tone, diffuse["slower"].tone) == ("noise", "worse")
    assert "diffuse, DiT: -20 % in 27 series" in page("index.html").shown("noise")


def test_exact_rows_come_first(site):
    window = start.last_week(site)
    assert [line.exact for line in window.exact + window.timed] == sorted(
        (line.exact for line in window.exact + window.timed), reverse=True
    )
    assert window.exact[0].place == "8 GB (RTX 4060)"


def test_the_age_of_each_machine_and_what_is_left_out(page):
    shown = page("index.html").shown()
    assert (
        "amd-epyc-2-cores 23 hours ago 0 30" in shown and "nvidia-geforce-rtx-4060 2 days ago 2 10" in shown
    )
    assert "measurements on amd-epyc-2-cores: other work kept 1.4 of 2 cores busy" in shown


def test_without_a_release_the_first_measurement_stands_for_it(site, few):
    untagged = Site(replace(few, releases={}), site.now_s)
    window = start.last_release(untagged)
    assert "No release is tagged" in window.name and window.commits == COMMITS - 1
    assert start.last_release(site).commits == COMMITS - 1 - planted.RELEASED


@pytest.mark.parametrize(("at", "told"), [(COMMITS - 1, "0 commits, 0"), (COMMITS - 2, "1 commit, 1")])
def test_a_release_of_the_last_commit_is_followed_by_none(site, few, at, told):
    """Which is not that nothing changed."""
    tagged = Site(replace(few, releases={at: "v9"}), site.now_s)
    shown = Page(next(start.pages(tagged)).content).shown()
    assert f"{told} of them measured" in shown
    assert ("Nothing was committed since v9." in shown) == (at == COMMITS - 1)
    assert ("Nothing changed since v9, beyond noise." in shown) != (at == COMMITS - 1)


def test_where_nothing_happened_lately_it_says_so_and_what_was_last(site, few):
    later = Site(few, site.now_s + 40 * 86_400)
    page = Page(next(start.pages(later)).content)
    assert page.shown("answer") == "Nothing was committed since Monday, 16 November."
    assert "The last change before that" in page.shown() and "faster diffuse" in page.shown()


@pytest.mark.parametrize("at", DOCS)
def test_documentation_has_nothing_red_on_it(page, at):
    """Nor green, also where a machine first measured there what an earlier commit did."""
    shown = page(at)
    assert not {"worse", "better"} & shown.classes.keys()
    assert shown.shown("answer").startswith("Nothing that runs changed")


def test_noise_is_neither_better_nor_worse(page):
    """The control: the slowdown is worse."""
    quiet = page(QUIET)
    assert not {"worse", "better"} & quiet.classes.keys()
    assert "same within noise" in quiet.shown("noise")
    assert "worse" in page(SLOWER).classes


@pytest.mark.parametrize(
    ("at", "answer", "tone"),
    [
        (SLOWER, "▲ diffuse is slower (+25 %); ▲ memory traffic of diffuse grew (+6.0 %).", "worse"),
        (GROWN, "▲ 8 GB (RTX 4060) no longer fits turbo with LM, and 1 more; ▲ peak memory grew", "worse"),
        (REVERT, "▼ diffuse is faster (-20 %); ▼ memory traffic of diffuse fell (-5.7 %).", "better"),
    ],
)
def test_a_commit_says_what_it_did(page, at, answer, tone):
    shown = page(at)
    assert shown.shown("answer").startswith(answer)
    assert {"worse": "better", "better": "worse"}[tone] not in shown.classes


def test_a_commit_says_whose_it_is_and_how_it_was_measured(site, page):
    shown, commits = page(SLOWER), site.history.commits
    assert f"{commits[SLOWER].sha[:12]} by Ada Okafor, 2026-10-05. Parent: " in shown.shown("facts")
    assert f"{planted.ADDRESS}{commits[SLOWER].sha}" in shown.links
    assert commit_page(commits[SLOWER - 1].sha) in shown.links
    assert "load 1.1, other work kept no core busy, at most 61 °C" in shown.shown("facts")
    assert re.search(r"diffuse, DiT \+2\d % \+2\d % to \+\d+ % ▲ slower 27", shown.shown())


def test_a_failed_card_is_words(page):
    """Never the number of its exit code, and coloured where it changed alone."""
    grown, later = page(GROWN).shown("fits"), page(GROWN + 1)
    assert grown.count("▲ out of memory was: fits") == 2 and not re.search(r"\b20\b(?!\.| GB)", grown)
    assert "out of memory" in later.shown("fits") and "worse" not in later.classes


def test_what_failed_and_what_was_left_out_is_told(page):
    assert "tasks.TimeTask.track_wall('complete', 5) failed; it ran before" in page(FAILED).shown()
    assert "measurements are left out: other work kept 1.4 of 2 cores busy" in page(LOADED).shown("noise")


def test_who_knows_better_narrows_it_down(site, page):
    """The card measured neither the revert nor the commit after it; the other machine did."""
    revert = site.history.commits[REVERT]
    late = [one for one in shifts.sightings(site) if one.shift.base == site.history.commits[REVERT - 1]]
    assert {one.machine for one in late} == set(planted.MACHINES)
    assert {one.suspects for one in late} == {(revert,)}
    assert not {"worse", "better"} & page(REVERT + 1).classes.keys()


def test_every_commit_is_in_the_list_with_a_line(site, page):
    shown = page("commit.html")
    assert [one for one in shown.ids if len(one) == 40] == [one.sha for one in reversed(site.history.commits)]
    assert "slower: diffuse, +25 %" in shown.shown("worse") and "Nothing that runs changed." in shown.shown(
        "noise"
    )


def test_no_link_leads_nowhere(contents):
    known = contents.keys() | NAVIGATION.keys()
    for content in contents.values():
        page = Page(content)
        local = {link.partition("#")[0] for link in page.links if not link.startswith("https://")} - {""}
        assert local <= known | {"vega.LICENSE.txt"}


def test_a_song_is_told_by_its_changes_and_its_doubtful_point_as_such(site):
    chart = start_chart.chart(site)
    rows = [row for row in chart.rows if row["machine"] == "amd-epyc-2-cores"]
    kinds = {row["at"]: row["kind"] for row in rows if row["kind"]}
    assert kinds == {LOADED: "doubtful", SLOWER: "slower", REVERT: "faster"}
    assert rows[LOADED]["note"].startswith("other work") and rows[LOADED]["time"] > 0.2
    assert rows[SLOWER]["level"] == pytest.approx(0.25 * 0.14 / 0.262, abs=0.02)
    assert "amd-epyc-2-cores now 0.26" in chart.story and "2 changes" in chart.story


def test_pages_are_small(contents):
    assert max(len(content.encode()) for content in contents.values()) < 200_000


def test_what_a_commit_is_called_is_text(site, few):
    """The elements are those of an innocent name, and nothing of it gets out of a script."""
    shapes = []
    for text in (HOSTILE, "innocent"):
        commits = [replace(one, subject=text, author=text) for one in few.commits]
        machines = [replace(one, facts=one.facts | {"machine": text}) for one in few.machines]
        named = replace(few, commits=commits, machines=machines, releases={REVERT - 1: text})
        named_site = Site(named, site.now_s, site.address)
        pages = [*start.pages(named_site), *islice(commit.pages(named_site), SLOWER + 2)]
        scripts = [json.loads(one) for one in re.findall(r'json">(.*?)</script>', pages[0].content)]
        assert scripts[0]["data"]["values"][0]["subject"] == commits[0].subject or text is HOSTILE
        assert not any(re.search("<img|\x1b|\u202e", page.content) for page in pages)
        shapes.append([Page(page.content).elements for page in pages])
    assert shapes[0] == shapes[1]


def test_of_commits_between_measured_ones_those_that_may_have_done_it_have_a_page(site, few):
    """Each third was measured: the two before may have done it, too. The revert is noise until another."""
    third = Site(replace(few, machines=few.machines[1:]), site.now_s, site.address)
    pages = {page.name: Page(page.content) for page in commit.pages(third)}
    names = [commit_page(one.sha) for one in few.commits]
    assert {at for at, name in enumerate(names) if name in pages and at % 3} == {
        SLOWER - 2, SLOWER - 1, GROWN, GROWN + 1,
    }  # fmt: skip
    unmeasured, listed = pages[names[SLOWER - 1]], pages["commit.html"].shown()
    assert unmeasured.shown("answer").startswith("Perhaps its doing: ▲ diffuse is slower")
    assert names[SLOWER] in unmeasured.links and names[SLOWER - 2] in unmeasured.links
    assert listed.count("perhaps slower: diffuse") == 3 and "2 not measured" in listed


def test_without_a_song_there_is_no_chart(site, few):
    none = Site(first_of(few, 6, "PredictedPeak"), site.now_s)
    assert start_chart.chart(none) is None and "<figure" not in next(start.pages(none)).content


def test_what_ran_and_fails_is_the_answer_of_its_commit(site, page):
    """It ran again afterwards, so Start has nothing to say of it. The control: no other commit fails."""
    failed = "▲ tasks.TimeTask fails (1 series)"
    assert page(FAILED).shown("answer") == f"{failed}." and "failed" not in page("index.html").shown("worse")
    assert page("commit.html").shown("worse").count("failed: tasks.TimeTask, 1 series") == 1
    machines = [failing(one, last=COMMITS - 1) for one in site.history.machines]
    fails = Site(replace(site.history, machines=machines), site.now_s, site.address)
    assert failed in Page(next(start.pages(fails)).content).shown("answer")
    quiet = replace(fails.history, commits=[replace(one, code=False) for one in site.history.commits])
    assert "fails" not in Page(next(start.pages(Site(quiet, site.now_s))).content).shown("answer")


def test_a_page_below_the_navigation_says_below_which(page):
    """And of charts only a page speaks that has some."""
    for name, marked in ((FAILED, "true"), ("commit.html", "page"), ("index.html", "page")):
        assert page(name).current == [marked], name
    assert "Vega-Lite" in page("index.html").text and "Vega-Lite" not in page(FAILED).text


def test_a_machine_whose_clock_is_wrong_says_so(site, few):
    """A time that is not known is not 1970."""
    for measured_ms, words in ((0, "at no known time"), (1e3 * site.now_s + 864e5, "1 day ahead")):
        machines = [replace(one, measured=dict.fromkeys(one.measured, measured_ms)) for one in few.machines]
        wrong = Site(replace(few, machines=machines), site.now_s)
        shown = Page(next(start.pages(wrong)).content).shown()
        assert words in shown and "1970" not in shown
    first = replace(few, machines=[replace(few.machines[0], measured={0: 0})])
    pages = {one.name: one.content for one in commit.pages(Site(first, site.now_s))}
    assert "Measured at no known time" in Page(pages[commit_page(few.commits[0].sha)]).shown()


def test_machines_of_one_name_say_in_what_they_differ(site, few):
    """The control: of one with a name of its own there is nothing to say."""
    first = few.machines[0]
    twin = replace(first, environment="virtualenv-py3.11", facts=first.facts | {"torch": "2.14.0"})
    twins = Site(replace(few, machines=[first, twin]), site.now_s)
    shown = Page(next(start.pages(twins)).content).shown()
    assert "2.13.0, checkout" in shown and "2.14.0, virtualenv-py3.11" in shown
    assert site.apart(site.machines[0]) == ""
