"""What the pages have that explain the repository: README, CONTRIBUTING and those of `docs/`."""

from __future__ import annotations

import re
from pathlib import Path

from places import ROOT

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = (README, CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md")))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(name: str) -> str:
    """Of a page, by its path in the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """What a page has under a heading of the second level."""
    return text(name).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def lines(page: str) -> list[str]:
    """The lines of its indented blocks, whole where a backslash breaks them, without comments."""
    plain = FENCED.sub("", page).replace("\\\n", "")
    return [re.sub(r"\s+# .*", "", line) for line in re.findall(r"^    (\S.*)$", plain, re.MULTILINE)]


def code(name: str, language: str) -> str:
    """The one fenced block of a page in a language."""
    (block,) = [block for named, block in FENCED.findall(text(name)) if named == language]
    return block


def spans(page: str) -> list[str]:
    """What it has between backquotes within its text, on one line each."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", page))]


def links(page: Path) -> list[tuple[Path, str]]:
    """The files of the repository that a page links to or shows, each with the anchor there, or nothing."""
    targets = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", FENCED.sub("", page.read_text(encoding="utf-8")))
    local = [(path, anchor) for path, anchor in targets if "://" not in path]
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in local]


def anchors(page: Path) -> set[str]:
    """Those of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
