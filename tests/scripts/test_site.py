"""The site in a browser: every page, no network, from a sub-path, not one console error."""

import shutil

import pytest
from browsers import served, wrong

from scripts.site import explorer_bundle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
PAGES = ("Overview", "Explore", "Heatmap", "Grid", "Multiples", "Compare", "Regressions", "Inventory")


@pytest.fixture
def address(narrow, tmp_path):
    """The published history, served from a folder below the root as GitHub Pages does."""
    narrow.commit("Slower", narrow.engine.replace("SLOWER = 1.0", "SLOWER = 1.5"))
    narrow.asv("run", "-E", "checkout", "HEAD~2..HEAD")
    narrow.asv("publish")
    shutil.copytree(narrow.path / ".asv/html", tmp_path / "www" / "some" / "path")
    with served(tmp_path / "www") as root:
        yield f"{root}some/path/"


def test_every_page(page, address):
    faults = wrong(page, address)
    page.goto(f"{address}explorer.html")
    page.wait_for_load_state("networkidle")
    assert page.title().startswith("acestep-bench")
    for name in PAGES:
        page.get_by_role("button", name=name, exact=True).first.click()
        page.wait_for_load_state("networkidle")
        assert page.locator("#root").inner_text().strip(), name
    page.get_by_role("button", name="Explore", exact=True).first.click()
    # Names fit their column, and the buttons of many series leave room for the chart.
    wide = "() => [...document.querySelectorAll('.bench-item')].filter(x => x.scrollWidth > x.clientWidth)"
    page.get_by_text("generate.TrackStages.track_stage", exact=True).first.wait_for()
    assert page.get_by_text("costs.TrackPredictedPeak").count() == 0  # nothing of it was measured here
    assert page.evaluate(f"({wide})().length") == 0
    for benchmark, direction in (
        ("lm.TrackTokensPerSec.track_decode_rate", 1),
        ("dit.TimeDiT.track_diffuse", 0),
    ):
        page.get_by_text(benchmark, exact=True).first.click()
        page.wait_for_load_state("networkidle")
        page.get_by_role("heading", name=benchmark).wait_for()
        assert page.get_by_text("higher is better").count() == direction
    assert faults == []


def test_a_bundle_that_has_changed_is_an_error_and_not_a_page_nobody_can_read(tmp_path, monkeypatch):
    explorer_bundle.install(tmp_path)
    (written,) = tmp_path.glob("assets/index-*.js")
    assert not [
        theirs
        for theirs, ours in explorer_bundle.REPLACED.items()
        if theirs not in ours and theirs in written.read_text()
    ]
    monkeypatch.setitem(explorer_bundle.REPLACED, "no such code", "")
    with pytest.raises(RuntimeError, match="has not one no such code"):
        explorer_bundle.install(tmp_path)
