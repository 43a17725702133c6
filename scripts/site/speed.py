"""Speed: where the time goes, on which machine, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.site.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    yield site.page("speed.html", "speed.html", "Speed")
