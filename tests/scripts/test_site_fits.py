"""The site's page of fits: a planted growth of memory, and what is predicted of each card."""

import json
import re
from contextlib import chdir
from dataclasses import replace

import msgspec
import planted
import pytest
from tier_records import record

from harness.cards import find
from harness.errors import MissingPrerequisite
from harness.memory import GIB
from scripts.site import fits, fits_cache, fits_history, fits_matrix, fits_predict
from scripts.site.fits_record import Card, Cell, Fits, Limits, Stretch
from scripts.site.fits_record import Case as Prediction
from scripts.site.page import Site
from tiersim import Case
from tiersim.case import resolve
from tiersim.record import Sample

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Of a planted history what it knows of cards."""
    folder = tmp_path_factory.mktemp("planted") / "repository"
    whole = planted.site_of(folder)
    for machine in whole.history.machines:
        machine.series = [one for one in machine.series if "tier_gb" in one.params]
    with chdir(folder):
        assert whole.report
    return whole


def of(site, change):
    """The site with each value of a series made another: a function of the series and the value."""
    machines = [
        replace(
            machine,
            series=[
                replace(one, values=[change(one, value) for value in one.values]) for one in machine.series
            ],
        )
        for machine in site.history.machines
    ]
    return Site(replace(site.history, machines=machines), site.now_s)


def text(page):
    return " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page.content, flags=re.DOTALL).split())


def test_since_which_commit_8_gb_no_longer_fits(site):
    """Machines that skipped the commit know from the one that did not which it was."""
    (turn,) = fits_history.known(site).turns
    assert [commit.subject for commit in turn.commits] == [planted.SUBJECTS[planted.GROWN]]
    assert (turn.tone, turn.sign, turn.since) == ("worse", "▲", "Since")
    assert turn.verdict == "8 GB (RTX 4060) no longer fits"
    assert "Predicted: turbo without LM, nothing offloaded. Measured on " in turn.what
    assert turn.what.count("turbo with LM") == 2  # of both machines


def test_a_machine_that_skipped_commits_says_which_it_may_have_been(site):
    seldom = min(site.history.machines, key=lambda machine: len(machine.measured))
    (turn,) = fits_history.known(Site(replace(site.history, machines=[seldom]), site.now_s)).turns
    assert planted.SUBJECTS[planted.GROWN] in [commit.subject for commit in turn.commits]
    assert turn.since == f"Since one of {len(turn.commits) - 1} commits before it, or since"


def test_before_and_after_are_words_and_never_an_average(site):
    known = fits_history.known(site)
    assert list(known.rows) == [4, 6, 8, 12, 16, 20, 24]
    words = {column: verdict.words for row in known.rows.values() for column, verdict in row.items()}
    assert all(re.fullmatch(r"yes, \d+\.\d GB to spare|out of memory", one) for one in words.values())
    changed = {column for column, verdict in known.rows[8].items() if verdict.turn}
    assert changed == {*known.turns[0].columns} and len(changed) == 3
    assert not any(verdict.turn for size, row in known.rows.items() if size != 8 for verdict in row.values())
    assert sum(known.groups.values()) == len(known.columns)
    places = [list(known.groups).index(column.by) for column in known.columns]
    assert places == sorted(places)  # a column stands below its own heading


def test_where_nothing_grew_nothing_is_told(site):
    """The control."""
    quiet = of(site, lambda one, value: 0.0 if one.unit == "exit code" and value == value else value)
    known = fits_history.known(quiet)
    assert not known.turns and {verdict.words[:3] for verdict in known.rows[8].values()} <= {"yes", "fit"}


def test_a_crash_is_no_lack_of_memory(site):
    crashed = of(site, lambda one, value: 137.0 if value == 20 else value)
    words = {verdict.words for verdict in fits_history.known(crashed).rows[8].values() if verdict.turn}
    assert words == {"failed, exit code 137"}


def predicted(**changes) -> Fits:
    """Of two sizes of card and one model."""
    memory = (Stretch(0.0, 1.0, "load", 4.5), Stretch(1.0, 3.0, "vae_decode", 5.9))
    cells = (
        Cell(4, "turbo", False, "default", "full", "does not fit", "k4"),
        Cell(8, "turbo", False, "default", "roomy", "yes, 3.0 GB to spare", "k8"),
        Cell(8, "turbo", False, "no-quant", "roomy", "yes, 3.0 GB to spare", "k8"),
        Cell(8, "turbo", True, "default", "roomy", "yes, 2.1 GB to spare", "k8lm"),
        Cell(4, "turbo", True, "default", "unknown", "no LM"),
        Cell(4, "turbo", True, "no-quant", "unknown", "no LM"),
    )
    cases = (
        Prediction("k4", "turbo, no LM, default", f"does not fit{HOSTILE}", memory),
        Prediction("k8", "turbo, no LM, default", "fits", memory),
        Prediction("k8lm", "turbo, LM 0.6B, default", "fits", memory),
    )
    whole = Fits(
        "c" * 40, True, "2026-10-02", "30 s of audio", ("predicted for a card, torch 2.13.0, uncalibrated",),
        (Card(4, ""), Card(8, "0.6B")), cells, cases,
        (Limits(4, None, False, None, False), Limits(8, 600, True, 16, False)),
        {"full": ("#f2966d", "#a8431f"), "roomy": ("#9cc6e4", "#1b5079"), "unknown": ("#f3f4f6", "#24282e")},
        {"load": "#9aa5b1"}, '<svg class="fits"><a href="fits-8gb.html#k8"/></svg>',
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changes)


def pages(site, monkeypatch, found):
    monkeypatch.setattr(fits, "predicted", lambda site: found)
    return {page.name: page for page in fits.pages(site)}


def test_does_it_fit_8_gb_is_the_first_sentence(site, monkeypatch):
    whole = pages(site, monkeypatch, fits_cache.Predictions(predicted()))
    page = whole["fits.html"]
    first, second = re.search(r'class="answer"><strong>(.*?)</strong>', page.content), text(page)
    assert first[1] == "8 GB (RTX 4060): yes, 2.1 GB to spare (turbo with LM 0.6B, 30 s of audio, predicted)."
    assert "8 GB (RTX 4060) yes, 2.1 GB to spare yes, 3.0 GB to spare 600 s, a limit of requests 16" in second
    assert "4 GB (GTX 1650) no LM does not fit none none" in second
    assert "commit cccccccccccc and changes, 2026-10-02" in second


def test_each_cell_opens_its_memory_over_time_with_the_card_as_a_line(site, monkeypatch):
    whole = pages(site, monkeypatch, fits_cache.Predictions(predicted()))
    targets = set(re.findall(r'href="(fits-[^"]*#[^"]*)"', whole["fits.html"].content))
    assert targets == {"fits-4gb.html#k4", "fits-8gb.html#k8", "fits-8gb.html#k8lm"}
    for target in targets:
        name, _, anchor = target.partition("#")
        section = re.search(rf'<section id="{anchor}">.*?</section>', whole[name].content, re.DOTALL)[0]
        (spec,) = re.findall(r'<script type="application/json">(.*?)</script>', section, re.DOTALL)
        chart = json.loads(spec)
        assert [row["used_gb"] for row in chart["data"]["values"]] == [4.5, 5.9]
        lines = [layer["data"]["values"][0]["gb"] for layer in chart["layer"] if "data" in layer]
        assert set(lines) == {float(name[5])}
        assert 'data-save="csv"' in section and 'data-save="png"' in section
    assert whole["fits-8gb.html"].content.count("<section id=") == 2  # no-quant runs what default runs
    assert "without LM, default; without LM, no-quant: yes" in text(whole["fits-8gb.html"])
    assert "alert(1)" in whole["fits-4gb.html"].content and HOSTILE not in whole["fits-4gb.html"].content


def test_what_was_not_predicted_is_one_line_for_each_reason(site, monkeypatch):
    page = pages(site, monkeypatch, fits_cache.Predictions(predicted()))["fits-4gb.html"]
    headings = re.findall("<h3>(.*?)</h3>", page.content)
    assert headings == ["without LM, default: does not fit", "with LM, default; with LM, no-quant: no LM"]


def test_without_predictions_the_page_says_why_and_shows_what_asv_knows(site, monkeypatch):
    whole = pages(site, monkeypatch, fits_cache.Predictions(None, "Not predicted: no torch."))
    assert list(whole) == ["fits.html"]
    said = text(whole["fits.html"])
    assert re.search(
        r"8 GB \(RTX 4060\): yes, .* \(turbo without LM, predicted\); .*out of memory \(turbo with", said
    )
    assert "Not predicted: no torch." in said and "8 GB (RTX 4060) no longer fits" in said


def test_what_is_collected_says_of_each_cell_what_its_record_does():
    """One record stands for two variants on a card where nothing is saved; a skipped one opens nothing."""
    choices = (("dit", "acestep-v15-turbo"),)
    cases = [
        Case(size, card=find("rtx4090"), source="synthetic-tiny", variant=variant, choices=choices)
        for variant in ("default", "no-quant", "no-offload")
        for size in (4, 24)
    ]
    plans = [resolve(case) for case in cases]
    records = {}
    for plan in plans:
        case, timeline = plan.requested, tuple(Sample(t_s, "load/dit", GIB) for t_s in (0.0, 1.0, 2.0))
        whole = record(
            case.tier_gb, "skip" if plan.skip else "ok", 3.0, card=case.card, variant=case.variant,
            choices=choices,
        )  # fmt: skip
        timeline += (Sample(3.0, "diffuse", 2 * GIB), Sample(4.0, "post", 0))
        records[plan.key] = replace(whole, key=plan.key, timeline=timeline)
    whole = fits_matrix.collected(plans, records, [])
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Fits) == whole
    words = {(cell.size_gb, cell.variant): (cell.words, cell.level) for cell in whole.cells}
    assert words[4, "default"] == ("yes, 1.0 GB to spare", "roomy")
    assert words[4, "no-offload"] == ("not tried", "unknown")
    assert words[24, "default"] == words[24, "no-offload"] == ("yes, 21.0 GB to spare", "ample")
    opened = {cell.case for cell in whole.cells if cell.case}
    assert opened == {case.key for case in whole.cases} and len(opened) == 3
    small = whole.cases[0]
    assert [(one.from_s, one.to_s, one.stage, one.used_gb) for one in small.memory] == [
        (0.0, 3.0, "load", 1.5), (3.0, 4.0, "diffuse", 2.5),
    ]  # fmt: skip
    assert small.story.startswith("fits, 25 % left, peak 3.00 of 4 GB")
    assert set(re.findall(r'href="fits-(\w+).html#(\w+)"', whole.svg)) >= {("4gb", small.key)}
    assert {"load", "diffuse"} <= whole.stages.keys() and set(words.values()) > {("not tried", "unknown")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder without predictions; the state of the code is `now`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fits_cache, "_state", lambda: "now")
    monkeypatch.delenv("ACESTEP_BENCH_CELLS", raising=False)
    return tmp_path / fits_cache.FOLDER


def keep(folder, name, whole):
    (folder / name).mkdir(parents=True)
    (folder / name / "fits.json").write_bytes(msgspec.json.encode(whole))


def predicting(monkeypatch, code=0):
    """What is started in place of predicting, each as folder and sizes."""
    started = []

    def run(command):
        started.append(command[3:])
        if code == 0:
            keep(fits_cache.FOLDER, command[3].rpartition("/")[2], predicted())
        return type("Done", (), {"returncode": code})

    monkeypatch.setattr(fits_cache.subprocess, "run", run)
    return started


def test_it_is_predicted_once_for_a_state_of_the_code(site, folder, monkeypatch):
    started = predicting(monkeypatch)
    for _ in range(2):
        assert fits_cache.predicted(site) == fits_cache.Predictions(predicted())
    assert started == [[".asv/fits/now"]]


def test_cards_that_are_selected_are_all_that_is_predicted(site, folder, monkeypatch):
    started = predicting(monkeypatch)
    monkeypatch.setenv("ACESTEP_BENCH_CELLS", "tier_gb=8,16")
    assert "Of cards of 8, 16 GB alone" in fits_cache.predicted(site).note
    assert started == [[".asv/fits/now-8-16", "8", "16"]]


@pytest.mark.parametrize("why", ["narrowed", "unmeasured", "failed", "no code", "in make bench"])
def test_what_is_not_predicted_is_told_and_the_last_is_shown(site, folder, monkeypatch, why):
    keep(folder, "before", predicted(commit="b" * 40))
    started = predicting(monkeypatch, code=3)
    if why == "narrowed":
        monkeypatch.setenv("ACESTEP_BENCH_CELLS", "duration_s=5")
    if why == "in make bench":
        monkeypatch.setenv(fits_cache.ONLY_KEPT, "1")
    if why == "unmeasured":
        machines = [replace(one, measured={0: 0}) for one in site.history.machines]
        site = Site(replace(site.history, machines=machines), site.now_s)
    if why == "no code":

        def lacking():
            raise MissingPrerequisite("git: no")

        monkeypatch.setattr(fits_cache, "_state", lacking)
    found = fits_cache.predicted(site)
    assert bool(started) is (why == "failed")
    reason = {"narrowed": "asks for less", "unmeasured": "is not measured", "failed": "failed",
              "no code": "lacks some of", "in make bench": "make site does it"}[why]  # fmt: skip
    assert reason in found.note and "\n" not in found.note
    assert ("What is shown is of commit bbbbbbbbbbbb, 2026-10-02." in found.note) is (why != "no code")
    assert found.fits == (None if why == "no code" else predicted(commit="b" * 40))


@pytest.mark.parametrize("size", ["abc", "0", "1e9"])
def test_a_size_that_is_none_is_one_line(tmp_path, capsys, size):
    assert fits_predict.main([str(tmp_path / "new"), size]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("fits: ") and "GB: " in err
    assert not (tmp_path / "new").exists()
