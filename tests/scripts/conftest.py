"""Shared by the tests of pages: a planted history, and a browser without a network."""

import re
import shutil
from contextlib import chdir
from dataclasses import replace

import planted
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FEW = "TimeDiT|TimeGenerate[.]|PredictedPeak[.]|PeakMemTier[.]"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """That of the planted history."""
    folder = tmp_path_factory.mktemp("planted") / "repository"
    site = planted.site_of(folder)
    with chdir(folder):
        assert site.report
    return site


@pytest.fixture(scope="session")
def few(site):
    """The history with the series that a few benchmarks have."""
    machines = [
        replace(one, series=[series for series in one.series if re.search(FEW, series.benchmark)])
        for one in site.history.machines
    ]
    return replace(site.history, machines=machines)


@pytest.fixture
def page():
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()
