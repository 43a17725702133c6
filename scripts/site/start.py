"""Start: what changed lately, the exact first, then what was timed; how old the measurements are."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.site.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    yield site.page("start.html", "index.html", "Start")
