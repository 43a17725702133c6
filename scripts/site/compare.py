"""Compare: any two commits or machines, number by number."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.site.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    yield site.page("compare.html", "compare.html", "Compare")
