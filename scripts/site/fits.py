"""Fits: what runs on which card, with how much to spare."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.site.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    yield site.page("fits.html", "fits.html", "Fits")
