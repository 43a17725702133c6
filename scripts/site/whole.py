"""The whole site: all pages, and what they load."""

from __future__ import annotations

from pathlib import Path

from scripts.site import charts, commit, compare, fits, speed, start
from scripts.site.page import Site

HERE = Path(__file__).parent
STATIC = ("site.css", "site.js", "compare.js", "verdicts.js", "favicon.svg")
PAGES = (commit.pages, fits.pages, speed.pages, compare.pages, start.pages)  # the door stands in a whole site


def write(site: Site, html: Path) -> None:
    """Write all pages into the folder `html`, and what they load."""
    charts.install(html)
    for name in STATIC:
        (html / name).write_bytes((HERE / name).read_bytes())
    for pages in PAGES:
        for page in pages(site):
            (html / page.name).write_text(page.content, "utf-8")
