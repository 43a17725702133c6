"""What the explorer opens on and calls worse, over a branch whose truth is known."""

import json
import re
from dataclasses import replace
from itertools import product
from math import log
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from asv.graph import Graph, GraphSet
from asv.util import UserError
from browsers import served, wrong
from planted import DOCS, GROWN, MACHINES, REVERT, SLOWER, plant
from published import publish

from scripts import asv_site
from scripts.changes.history import Machine
from scripts.changes.report import Moved, Shift
from scripts.changes.standing import Step, standing, verdict
from scripts.site import explorer, explorer_bundle
from scripts.site.page import commit_page

RATE_AND_NOISE = "lm.TrackTokensPerSec.track_decode_rate", "parity.TrackParity.track_nmse"
STILLED, ONCE = "dit.TimeDiT.track_diffuse", "vae.TimeVAEDecode.track_vae_decode"
SOME = 4  # of many alike are opened in the browser
FIRST, SECOND = MACHINES
PEAKS = re.compile(r"(PeakMemTier|TrackPredictedPeak(XL)?)[.]track_peak")
LOUDER = 12  # from this commit on all decibels are 3 more


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """Decibels rise, a benchmark was measured once, and the second machine has half the series of another."""
    folder = tmp_path_factory.mktemp("explorer")
    commits = plant(folder)
    for path in (folder / ".asv/results").glob("*/*-checkout.json"):
        content = json.loads(path.read_text())
        at = commits.index(content["commit_hash"])
        for name, row in content["results"].items():
            if name.endswith("track_nmse") and at >= LOUDER:
                row[0] = [value + 3 for value in row[0]]
            if name == ONCE and at != 6:
                row[0] = [float("nan")] * len(row[0])
        if path.parent.name == SECOND:
            row = content["results"][STILLED]
            row[0] = [value if number % 2 else float("nan") for number, value in enumerate(row[0])]
        path.write_text(json.dumps(content))
    with mock.patch("scripts.site.charts.install"):  # which other pages load
        return publish(folder)


@pytest.fixture(scope="module")
def index(html):
    return json.loads((html / "explorer.json").read_text())


@pytest.fixture(scope="module")
def regressions(html):
    return json.loads((html / "regressions.json").read_text())["regressions"]


def commit_at(index, revision):
    """The place in the planted branch: its revisions are all measured, so they are counted alike."""
    return sorted(map(int, index["revision_to_hash"])).index(int(revision))


def rows(html, index, label, name):
    return json.loads((html / f"{Graph.get_file_path(index['environments'][label], name)}.json").read_text())


def test_every_benchmark_opens_on_a_value_and_what_has_none_is_not_offered(html, index):
    blank = failed = 0
    for label, name in product(index["environments"], index["benchmarks"]):
        points = [
            values if isinstance(values, list) else [values] for _, values in rows(html, index, label, name)
        ]
        known = {at for row in points for at, value in enumerate(row) if value is not None}
        own = index["measured"][label].get(name, {"order": []})
        assert sorted(own["order"]) == sorted(known), (label, name)
        ends = [row for row in points if any(value is not None for value in row)][-1:]
        failed += bool(ends) and ends[0].count(None) > len(ends[0]) - len(known)
        assert not ends or ends[0][own["order"][0]] is not None  # nor on what has failed since
        blank += bool(known) and 0 not in known
    assert blank > 0  # would open on n/a, as the first of all series
    assert failed > 0


def test_machines_are_chosen_by_one_name(index):
    """What tells them apart comes along: no choice of one has no graphs."""
    assert list(index["params"]) == ["machine"]
    assert sorted(index["params"]["machine"]) == [*MACHINES]
    assert index["graph_param_list"] == [{"machine": label} for label in index["params"]["machine"]]
    assert index["environments"][SECOND]["cpu"] == MACHINES[SECOND]["cpu"]


def test_the_stage_that_moved_is_in_front(index):
    for name, benchmark in index["benchmarks"].items():
        if "stage" not in benchmark["param_names"] or "TrackStages" not in name:
            continue
        series = list(product(*benchmark["params"]))
        first = series[index["measured"][FIRST][name]["order"][0]]
        assert first[benchmark["param_names"].index("stage")] == "'diffuse'"


def test_regressions_are_what_got_worse_and_stayed(index, regressions):
    """The memory; not the slowdown, which was reverted, and no commit of documentation. Of the second machine
    one measurement alone says that it was, which is noise until another agrees."""
    worse = {(row[2]["machine"], row[0].partition("(")[0], row[3]): row for row in regressions}
    unit = {one: index["benchmarks"][one[1]]["unit"] for one in worse}
    assert {unit[one] for one in worse if one[0] == FIRST} == {"bytes", "exit code", "GB"}
    measured = {
        (label, name, at)
        for label, names in index["measured"].items()
        for name, own in names.items()
        for at in own["order"]
    }
    peaks = {one for one in measured if PEAKS.search(one[1])}  # some are n/a from then on: they do not fit
    grown = {one for one in worse if one[1] in {name for _, name, _ in peaks}}
    assert len(grown) > 0.8 * len(peaks) and grown <= peaks
    commits = {(one[0], commit_at(index, jump[1])) for one, row in worse.items() for jump in row[6]}
    assert commits == {(FIRST, GROWN), (SECOND, SLOWER), (SECOND, GROWN + 2)}  # each third was measured
    assert {row[7] for row in worse.values()} == {
        "fits → out of memory", "6 GB → 8 GB", "8 GB → 12 GB", None,
    }  # fmt: skip
    verdicts = {
        one for one in measured if index["measured"][one[0]][one[1]]["verdicts"].get(str(one[2])) == 1
    }
    assert verdicts == set(worse)


def test_colours_are_of_commits_that_did_it(index):
    moves = index["measured"][FIRST][STILLED]["moves"]
    assert {commit_at(index, revision): worse for revision, (worse, _) in moves.items()} == {
        SLOWER: True, REVERT: False,
    }  # fmt: skip
    told = {commit_at(index, one) for own in index["measured"][FIRST].values() for one in own["moves"]}
    assert told and not told & set(DOCS)


def test_a_rate_is_no_loss_and_decibels_have_no_ratio(index):
    rate, noise = (index["benchmarks"][name] for name in RATE_AND_NOISE)
    assert rate["less_is_better"] is False and not rate["by_difference"]
    assert noise["by_difference"]


def test_all_that_is_fetched_is_there(html, index):
    for label, name in product(index["environments"], index["benchmarks"]):
        path = f"{Graph.get_file_path(index['environments'][label], name)}.json"
        assert (html / path).exists() and (html / path.replace("graphs", "samples", 1)).exists()
    link = index["show_commit_url"] + next(iter(index["revision_to_hash"].values()))
    assert re.fullmatch(r"commit\.html#[0-9a-f]{40}", link) and (html / "commit.html").exists()
    subjects = json.loads((html / "commits.json").read_text())
    assert set(subjects) == set(index["revision_to_hash"].values())


def test_asvs_own_verdicts_are_not_published(html):
    assert not (html / "regressions.xml").exists() and not (html / "graphs/summary").exists()


def test_two_sources_of_weights_are_two_environments_of_a_machine():
    """Each with its own changes, though asv fills in for one what only the other has."""
    facts, graphs = {"machine": "a", "cpu": "A"}, GraphSet()
    for source in ("tiny", "full", None):
        params = facts | {"env-SOURCE": source, "branch": "HEAD"}
        graphs.get_graph("x.X.track_x", params).add_data_point(0, [1.0])
    shift = replace(step(1.25).shift, series=(step(1.25).moved,))
    machines = [Machine(facts, "tiny", variables={"SOURCE": "tiny"}), Machine(facts, "none")]
    reports = [SimpleNamespace(facts=facts, environment=name, shifts=(shift,)) for name in ("none", "tiny")]
    reports[1].shifts = ()
    site = SimpleNamespace(
        history=SimpleNamespace(machines=machines), report=SimpleNamespace(machines=reports)
    )
    known = {one.label: list(one.steps) for one in explorer._environments(site, graphs)}
    assert list(known.items()) == [("a", ["x"]), ("a · tiny", []), ("a · full", [])]


def step(ratio):
    shift = Shift(
        stage="diffuse", component="DiT", unit="seconds", exact=False, worse=ratio > 1, drift=False,
        by_code=True, since=None, commit=None, base=None, candidates=1, change=ratio - 1, low=None, high=None,
        series=(),
    )  # fmt: skip
    return Step(shift, Moved("x", 1.0, ratio, ratio, None, None))


@pytest.mark.parametrize(
    ("ratios", "left", "worse"),
    [
        ((), [], 0),
        ((1.25,), [0], 1),
        ((1.25, 0.8), [], 0),
        ((1.25, 0.806), [], 0),  # within what noise leaves of a revert
        ((1.25, 0.9), [0], 1),
        ((1.25, 1.12, 0.8), [1], 1),  # what was taken back is as large
        ((1.12, 1.25, 0.8), [0], 1),
        ((0.5, 1.1), [1], 1),
        ((1.25, 0.5), [], -1),
        ((0.9,), [], -1),
    ],
)
def test_a_gain_takes_back_the_loss_it_is_as_large_as(ratios, left, worse):
    path = [step(ratio) for ratio in ratios]
    assert [path.index(one) for one in standing(path)] == left
    assert verdict(path) == worse
    assert all(one.moved.step == pytest.approx(log(ratio)) for one, ratio in zip(path, ratios, strict=True))


def test_from_disk_the_explorer_says_what_to_do(tmp_path):
    explorer_bundle.install(tmp_path)
    text = (tmp_path / "explorer.html").read_text()
    assert "make preview" in text and text.count('href="index.html"') >= 2
    assert Path(tmp_path / explorer_bundle.SCRIPT).exists() and not (tmp_path / "index.html").exists()


def test_a_full_disk_is_a_line_and_leaves_no_door(tmp_path, monkeypatch):
    conf = SimpleNamespace(html_dir=str(tmp_path))

    def full(html):
        (html / "index.html").write_text("half of")
        raise OSError(28, "No space left on device", str(html / "vega.js"))

    monkeypatch.setattr(asv_site, "measured", lambda: None)
    monkeypatch.setattr(explorer_bundle, "install", full)
    with pytest.raises(UserError, match=r"vega[.]js: No space left on device; the site is not whole"):
        asv_site.Site.publish(conf, None, {}, None, {})
    assert not (tmp_path / "index.html").exists()


OPENED = """async (names) => {
  const opened = {}
  for (const button of document.querySelectorAll(".bench-item")) {
    const name = button.querySelector(".name").textContent
    if (!names.includes(name)) continue
    button.click()
    for (let tries = 0; tries < 3000; tries++) {
      await new Promise((done) => setTimeout(done, 10))
      const drawn = document.querySelector(".chart-wrap canvas")
      const title = document.querySelector("main h1")?.textContent
      opened[name] = drawn && title === name ? document.querySelector(".stat .v").textContent : "no chart"
      if (!["no chart", "n/a"].includes(opened[name])) break
    }
  }
  return opened
}"""
POINTS = """() => {
  const swatch = document.querySelector(".param-chip.on .swatch")
  const canvas = document.querySelector(".chart-wrap canvas")
  if (!swatch || !canvas)
    return 0 // the page is being drawn
  const colour = getComputedStyle(swatch).backgroundColor.match(/\\d+/g)
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
  let count = 0
  for (let at = 0; at < data.length; at += 4)
    count += data[at + 3] > 200 && [0, 1, 2].every((part) => Math.abs(data[at + part] - colour[part]) < 10)
  return count
}"""


LISTED = "() => [...document.querySelectorAll('.bench-item .name')].map((name) => name.textContent)"
REGRESSED = """() => [...document.querySelectorAll("tbody tr")].map((row) =>
  [row.cells[0].querySelector(".mono").textContent.split("(")[0], row.cells[1].textContent])"""
COLOURED = """() => [...document.querySelectorAll(".heatmap-row td")].filter((cell) => cell.style.background)
  .map((cell) => [cell.closest("table").tHead.rows[0].cells[cell.cellIndex].title, cell.style.background])"""


@pytest.mark.browser
def test_in_a_browser(page, html, index):
    """The same as it is shown: nothing opens on n/a, filter and list agree, a point is a point."""
    with served(html.parent) as root:
        address = f"{root}{html.name}/"
        faults = wrong(page, address)
        page.goto(f"{address}explorer.html#view=explore")
        for machine in (FIRST, SECOND):
            page.locator(".bench-item").first.click()
            page.locator(".filters select").first.select_option(machine)
            measured = index["measured"][machine]
            assert set(page.evaluate(LISTED)) == set(measured)
            some = [STILLED, ONCE, *list(measured)[:: len(measured) // SOME]]
            opened = page.evaluate(OPENED, some)
            blank = [name for name, value in opened.items() if value in ("n/a", "no chart")]
            assert (set(opened), blank, faults) == (set(some), [], [])
            page.get_by_role("button", name="only-regressed").click()
            listed = page.evaluate(LISTED)
            page.get_by_role("button", name="Regressions", exact=True).click()
            rows = page.evaluate(REGRESSED)
            assert {name for name, where in rows if where == f"machine={machine}"} == set(listed) != set()
            page.get_by_role("button", name="Explore", exact=True).click()
            page.get_by_role("button", name="only-regressed").click()
        page.locator(".filters select").first.select_option(FIRST)
        page.get_by_text(RATE_AND_NOISE[1], exact=True).click()
        page.get_by_text("+3 dB").wait_for()
        link = page.get_by_role("link", name="open commit").get_attribute("href")
        page.get_by_text(ONCE, exact=True).click()
        page.get_by_role("heading", name=ONCE).wait_for()
        page.wait_for_function(f"() => ({POINTS})() > 10")
        page.get_by_role("button", name="Heatmap", exact=True).click()
        page.locator(".heatmap-row").first.wait_for()
        cells = page.evaluate(COLOURED)
        red = {commit_at(index, title.split()[1]) for title, colour in cells if "danger" in colour}
        assert red and not red & set(DOCS)
        assert faults == []
        page.goto(address + link)
        page.wait_for_url(f"{address}{commit_page(link.partition('#')[2])}")
