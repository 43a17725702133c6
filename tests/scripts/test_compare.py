"""The page Compare: its numbers, and in a browser what is chosen, reached by keyboard, and taken away."""

import json
import math
from dataclasses import replace

import measured
import pytest
from browsers import served, wrong
from measured import CARD, COMMITS, CPU, FULL

from scripts.changes.history import NOT_MEASURED
from scripts.site import compare, speed, whole

STEP = [1.0, 1.01, 0.99, 1.0, 1.5, 1.51, 1.49, 1.5]
FLAT = [0.1, 0.101, 0.099, 0.1, 0.101, 0.1, 0.099, 0.1]
SIZE, ENDS = {"duration_s": 5, "batch": 1}, (0.0987654, 0.1012345)
WALL = "generate.TimeGenerate.track_wall"


def named(at):
    return COMMITS[at].sha[:12]


@pytest.fixture
def site(monkeypatch):
    ones = [
        measured.series("dit.TimeDiT.track_diffuse", STEP, params=SIZE),
        measured.series("dit.TimeDiT.track_diffuse", [math.nan] * 8, params={"duration_s": 15, "batch": 1}),
        measured.series(WALL, FLAT, "wall", params=SIZE, doubts={7: "other work"}, intervals={7: ENDS}),
        measured.series(WALL, [0.3], "wall", params=SIZE | {"batch": 4}),
        measured.series("parity.TrackParity.track_nmse", [-40.0, -39.9] * 4, "nmse", unit="dB"),
        measured.series("costs.TrackCost.track_flop", [1e12] * 7 + [1.2e12], unit="FLOP"),
    ]
    ones[1].values[0], ones[1].gaps[7], ones[1].gaps[6] = 1.23456789, "failed", "n/a"
    ones[1].gaps[5] = NOT_MEASURED
    other = measured.series("dit.TimeDiT.track_diffuse", [2 * x for x in STEP], params=SIZE)
    return measured.site(monkeypatch, measured.machine(CPU, *ones), measured.machine(CARD, other))


def rows(data, machine=0):
    return {data["series"][number].name: rest for number, *rest in data["machines"][machine]["rows"]}


def test_a_number_is_six_digits_and_what_is_none_is_told(site):
    values, *_ = rows(compare.data(site))["dit.TimeDiT.track_diffuse duration_s=15 batch=1"]
    assert values[0] == 1.23457 and values[5:] == ["", None, "failed"]
    json.dumps(compare.data(site), allow_nan=False)


def test_what_changed_is_what_the_report_says(site):
    _, step, changes, *_ = rows(compare.data(site))["dit.TimeDiT.track_diffuse duration_s=5 batch=1"]
    (shift,) = [one for one in site.report.machines[0].shifts if not one.exact and one.stage == "diffuse"]
    assert changes == [(4, 4, *(pytest.approx(one, rel=1e-3) for one in (1.0, 1.5)), True)]
    assert shift.commit == COMMITS[4] and 0.02 <= step < 0.1


def test_doubts_and_intervals_go_along(site):
    data = compare.data(site)
    *_, doubts, intervals = rows(data)[f"{WALL} duration_s=5 batch=1"]
    assert data["reasons"][doubts[7]] == "other work" and intervals == {7: [0.09877, 0.1012]}


def test_decibels_are_compared_by_difference_and_have_no_relative_noise(site):
    data = compare.data(site)
    facts = {one.name: one for one in data["series"]}
    assert facts["parity.TrackParity.track_nmse stage=nmse"].signed
    assert not facts[f"{WALL} duration_s=5 batch=1"].signed
    assert rows(data)["parity.TrackParity.track_nmse stage=nmse"][1] is None


def test_few_values_have_no_verdict(monkeypatch):
    few = measured.site(monkeypatch, measured.machine(CPU, measured.series(WALL, FLAT[:4], "wall")))
    (row,) = rows(compare.data(few)).values()
    assert row[2] is None


def test_the_newest_commits_are_kept_and_the_script_stays_small(site, monkeypatch):
    monkeypatch.setattr(compare, "NEWEST", 3)
    data = compare.data(site)
    assert [commit[0] for commit in data["commits"]] == [named(at) for at in (5, 6, 7)]
    assert "newest 3 commits" in next(compare.pages(site)).content
    changes = rows(data)["dit.TimeDiT.track_diffuse duration_s=5 batch=1"][2]
    assert [first for first, *_ in changes] == [0]  # before all that are left: between no two of them


def test_a_hundred_commits_of_all_series_are_a_few_megabytes(site):
    spans = dict.fromkeys(range(8), ENDS)
    timed = measured.series(WALL, [0.0123456] * 8, "wall", intervals=spans)
    site.history.machines[0].series.append(replace(timed, name="another"))
    row = next(one for one in compare.data(site)["machines"][0]["rows"] if one[1][0] == 0.0123456)
    assert len(json.dumps(row, separators=(",", ":"))) / 8 * 100 * 1400 < 6e6


def test_machines_of_one_name_are_told_apart(monkeypatch):
    value = measured.series(WALL, FLAT, "wall")
    ones = [
        measured.machine(CPU, value),
        measured.machine(CPU, value, environment=FULL),
        measured.machine(CARD),
    ]
    first, second, card = measured.site(monkeypatch, *ones).machines
    assert card == "rtx" and first != second and first.startswith("a-cpu~")
    assert measured.site(monkeypatch, *ones[::-1]).machines == [card, second, first]  # links last


# ---- in a browser


@pytest.fixture
def folder(site, tmp_path, monkeypatch):
    monkeypatch.setattr(whole, "PAGES", (speed.pages, compare.pages))
    place = tmp_path / "some" / "path"
    place.mkdir(parents=True)
    whole.write(site, place)
    return place


FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one)
  if (one === document.body) return ["", true]
  return [one.name || one.id || one.dataset.save || one.getAttribute("aria-label") || one.textContent.trim(),
          style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1]
}"""
UP, DOWN, MACHINES = (4, 4, 1.0, 1.5, True), (6, 6, 1.5, 1.0, True), (4, 4, 1.0, 1.5, False)
VERDICT = """([value, step, changes, from, to, machines]) => {
  const side = (number) => ({ value: number, step, changes }), [a, b] = [{ at: from }, { at: to }]
  b.machine = machines ? b : (a.machine = a)
  const row = { unit: "seconds", time: true, from: side(1), to: side(value), step }
  return verdict(row, a, b).words
}"""
VERDICTS = {  # of 1 s and a value, the least step, changes, places of the commits; whether of two machines
    (1.5, 0.05, (UP,), 3, 4, False): "slower",
    (1.01, 0.05, (UP,), 3, 4, False): "slower",  # the level moved, whatever the noise of one measurement
    (0.6, 0.05, (UP,), 4, 3, False): "faster",
    (1.5, 0.05, (UP,), 4, 7, False): "noise, unless a second measurement agrees",
    (1.04, 0.05, (), 0, 7, False): "same within noise",
    (1.02, 0.05, (DOWN, UP), 3, 7, False): "same within noise",  # reverted
    (1.5, 0.05, (MACHINES,), 3, 4, False): "the machine's doing",
    (1.5, 0.05, None, 3, 4, False): "noise unknown",
    (1.001, 0.0001, (UP,), 3, 4, False): "too little to matter",
    (1.04, 0.05, (), 3, 4, True): "same within noise",
    (1.06, 0.05, (), 3, 4, True): "slower",
    (1.5, None, (), 3, 4, True): "noise unknown",
}  # fmt: skip
OWN = "file:", "http://127.0.0.1:", "data:", "about:"
CONTROLS = ["a-machine", "a-commit", "b-machine", "b-commit", "swap", "stage", "text", "all",
            "Series of A and B", "csv", "png"]  # fmt: skip


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_in_a_browser(page, folder):
    page.set_viewport_size({"width": 390, "height": 900})
    faults = wrong(page, "")
    page.on("request", lambda one: None if one.url.startswith(OWN) else faults.append(one.url))
    address = (folder / "compare.html").as_uri()
    _links_reproduce(page, address)
    for case, words in VERDICTS.items():
        assert page.evaluate(VERDICT, case) == words, case
    _what_is_no_number_is_a_word(page, address)
    _unknown_values_are_one_line(page, address)
    _keys_reach_every_control(page)
    _downloads(page, address)
    with served(folder.parents[1]) as root:
        for name in ("speed.html#%ff", f"compare.html?a=a-cpu@{named(2)}"):  # which is no text
            page.goto(f"{root}{folder.relative_to(folder.parents[1])}/{name}")
            page.locator(".plot svg").first.wait_for()
            if name.startswith(
                "speed"
            ):  # what is chosen of a chart is no part of its picture, and has a name
                page.get_by_role("combobox", name="songs at once").select_option("4")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    _without_scripts_nothing_is_shown_that_needs_them(page, folder)
    assert faults == []


def _told(page):
    return page.locator("#rows tr").all_inner_texts()


def _without_scripts_nothing_is_shown_that_needs_them(page, folder):
    plain = page.context.browser.new_page(java_script_enabled=False)
    for name, selector in (
        ("compare.html", "#choice"),
        ("compare.html", "#compared"),
        ("speed.html", ".save"),
    ):
        for one, visible in ((page, True), (plain, False)):
            one.goto((folder / name).as_uri())
            assert one.locator(selector).first.is_visible() is visible, (name, visible)
    plain.locator("summary", has_text="Numbers").first.click()
    assert plain.locator("figure table").first.is_visible()
    plain.goto((folder / "compare.html").as_uri())
    assert "switch scripts on" in plain.locator("main").inner_text()


def _links_reproduce(page, address):
    page.goto(f"{address}?a=a-cpu@{named(2)[:8]}&b=a-cpu@{named(6)}&text=TimeDiT")
    (row,) = _told(page)
    assert row.split("\t")[:3] == ["slower", "+51 %", "diffuse"]  # 1.49 over 0.99 s
    assert page.locator("#answer").inner_text().startswith("1 worse: diffuse +51 % (1).")
    assert page.locator("#story").inner_text() == "The table has 1 of 1 series."
    page.locator("[name=b-machine]").select_option("rtx")
    page.locator("[name=all]").check()
    link, told, answer = page.url, _told(page), page.locator("#answer").inner_text()
    assert "compares machines, not code" in answer
    page.goto("about:blank")
    page.goto(link)
    assert _told(page) == told and page.locator("#answer").inner_text() == answer
    assert page.locator("[name=b-machine] option:checked").inner_text() == "rtx"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def _what_is_no_number_is_a_word(page, address):
    page.goto("about:blank")
    page.goto(f"{address}#a=a-cpu@{named(0)}&b=a-cpu@{named(7)}&text=duration_s%3D15")
    (row,) = [row.split("\t") for row in _told(page)]
    assert (row[0], row[1], row[-3:-1]) == ("failed on B", "", ["1.235 s", "failed"])
    assert page.locator("#answer").inner_text().startswith("1 newly failed: diffuse (1).")
    page.locator("[name=text]").fill("nmse")
    page.locator("[name=all]").check()
    (row,) = [row.split("\t") for row in _told(page)]
    assert row[1] == "+0.1 dB"  # no percent of decibels
    page.locator("[name=text]").fill("nothing is called so")
    assert _told(page) == ["There is no such series of A or B."]  # which is not that nothing differs


def _unknown_values_are_one_line(page, address):
    page.goto("about:blank")
    page.goto(f"{address}#a=%zz&b=a-cpu@ffffffff&stage=<img src=x onerror=alert(1)>")
    notice = page.locator("#notice").inner_text()
    assert "was not measured" in notice and "there is no stage <img" in notice and "\n" not in notice
    assert page.locator("#rows tr").count() and not page.locator("main img").count()


def _keys_reach_every_control(page):
    reached = []
    page.locator("h1").click()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, visible = page.evaluate(FOCUSED)
        assert visible, name
        reached.append(name)
    assert [name for name in reached if name in CONTROLS][: len(CONTROLS)] == CONTROLS


def _downloads(page, address):
    page.goto("about:blank")
    page.goto(f"{address}?a=a-cpu@{named(2)}&b=a-cpu@{named(7)}&all")
    page.locator(".plot svg").wait_for()
    with page.expect_download() as download:
        page.locator("[data-save=csv]").click()
    table = download.value.path().read_text("utf-8")
    assert table.startswith('"B is","Change"') and '"1.23457"' not in table and '"0.1"' in table
    with page.expect_download() as download:
        page.locator("[data-save=png]").click()
    picture = download.value.path().read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 2000
