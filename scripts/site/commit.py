"""Commit: what one commit did to each stage, and to what fits which card."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.site.page import Page, Site


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    yield site.page("commit.html", "commit.html", "Commits")
