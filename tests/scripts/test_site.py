"""The site in a browser: every page, no network, from a sub-path, not one console error."""

import functools
import http.server
import shutil
import threading

import pytest

from scripts import asv_site

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PAGES = ("Overview", "Explore", "Heatmap", "Grid", "Multiples", "Compare", "Regressions", "Inventory")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(narrow, tmp_path):
    """The published history, served from a folder below the root as GitHub Pages does."""
    narrow.commit("Slower", narrow.engine.replace("SLOWER = 1.0", "SLOWER = 1.5"))
    narrow.asv("run", "-E", "checkout", "HEAD~2..HEAD")
    narrow.asv("publish")
    shutil.copytree(narrow.path / ".asv/html", tmp_path / "www" / "some" / "path")
    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/some/path/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page():
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on PATH; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser.new_page(viewport={"width": 1280, "height": 900})
        browser.close()


def test_every_page(page, address):
    wrong = []
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "request",
        lambda request: None if request.url.startswith((address, "data:")) else wrong.append(request.url),
    )
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
    page.get_by_text("costs.TrackPredictedPeak.track_status", exact=True).first.wait_for()
    assert page.evaluate(f"({wide})().length") == 0
    for benchmark, direction in (
        ("lm.TrackTokensPerSec.track_decode_rate", 1),
        ("dit.TimeDiT.track_diffuse", 0),
    ):
        page.get_by_text(benchmark, exact=True).first.click()
        page.wait_for_load_state("networkidle")
        page.get_by_role("heading", name=benchmark).wait_for()
        assert page.get_by_text("higher is better").count() == direction
    assert wrong == []


def test_a_bundle_that_has_changed_is_an_error_and_not_a_page_nobody_can_read(tmp_path, monkeypatch):
    asv_site.install(tmp_path)
    (bundle,) = tmp_path.glob("assets/index-*.js")
    assert not [theirs for theirs in asv_site.REPLACED if theirs in bundle.read_text()]
    monkeypatch.setitem(asv_site.REPLACED, "no such code", "")
    with pytest.raises(RuntimeError, match="has not one no such code"):
        asv_site.install(tmp_path)
