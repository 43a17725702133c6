"""The page in a browser: a cell of the fit matrix leads to its memory over time, by mouse and by keyboard."""

import shutil

import pytest
from tier_records import record

from harness.memory import GIB
from tiersim import document, html
from tiersim.answer import answer
from tiersim.case import Case, resolve
from tiersim.fits import fit_matrix
from tiersim.record import Sample

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TIMELINE = (Sample(1.0, "load", GIB), Sample(2.0, "diffuse", 2 * GIB))


@pytest.fixture
def page(tmp_path):
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    plans = [resolve(Case(size, source="synthetic-tiny", cap="virtual")) for size in (6, 8)]
    records = [record(plan.requested.tier_gb, peak_gb=2.0, key=plan.key, timeline=TIMELINE) for plan in plans]
    matrix = fit_matrix(plans, {one.key: one for one in records})
    file = tmp_path / "report.html"
    header = document.header(plans, [])
    file.write_text(html.page(header, records, (), matrix, answer(records)), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(file.as_uri())
        yield page
        browser.close()


def test_a_cell_opens_the_fold_that_it_leads_to(page):
    assert page.locator(".answer").inner_text() == "2 of 2 cases fit"
    folds = page.locator("section > details")
    assert [fold.get_attribute("open") for fold in folds.all()] == [None, None]
    page.locator("svg.fits a").nth(1).click()
    assert page.locator("#case1 svg").is_visible() and not page.locator("#case0 svg").is_visible()
    page.locator("svg.fits a").nth(0).focus()
    page.keyboard.press("Enter")
    assert page.locator("#case0 svg").is_visible()
    folds.nth(0).locator("summary").first.focus()
    page.keyboard.press("Enter")  # folded again
    assert not page.locator("#case0 svg").is_visible()
